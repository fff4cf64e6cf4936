//! The pretext tasks that came before contrast: tasks whose answers an image brings with it.
//!
//! - [`Rotation`]: by how many quarter turns was it turned? Gidaris, Singh, Komodakis 2018, arXiv
//!   1803.07728.
//! - [`Jigsaw`]: in which order were its tiles? Noroozi, Favaro 2016, arXiv 1603.09246.
//! - [`Colorization`]: which colors had it? Zhang, Isola, Efros 2016, arXiv 1603.08511.
//!
//! ```
//! use portolan_augment::presets;
//! use portolan_encoders::ResNetConfig;
//! use portolan_method::ImageMethod;
//! use portolan_pretext::Rotation;
//! use portolan_tensor::Device;
//!
//! let encoder = ResNetConfig { width: 8, ..ResNetConfig::named("resnet18")? }.into();
//! let rotation = Rotation::new(&encoder, vec![presets::mae(64)], Device::Cpu)?;
//! assert_eq!(rotation.encoder().width(), 64);
//! # anyhow::Ok(())
//! ```
//!
//! They are in one crate because each is small and the three are read together: each trades labels
//! for an answer that costs nothing, and each has shortcuts that its paper takes care to close
//! (seams between tiles, chromatic aberration, gray as the safe guess). The answers are made of the
//! view on the device, so that the loader knows nothing of them.

mod colorization;
mod entry;
mod jigsaw;
mod lab;
mod permutations;
mod rotation;

pub use colorization::{Colorization, ColorizationConfig};
pub use entry::{COLORIZATION, JIGSAW, ROTATION};
pub use jigsaw::{Jigsaw, JigsawConfig};
pub use permutations::{permutations, shortest_distance};
pub use rotation::Rotation;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
