//! The pretext tasks that preceded contrastive learning. Their labels come from the image itself.
//!
//! - [`Rotation`]: by how many quarter turns was the image rotated? Gidaris, Singh, Komodakis 2018,
//!   arXiv 1803.07728.
//! - [`Jigsaw`]: in which order are its tiles? Noroozi, Favaro 2016, arXiv 1603.09246.
//! - [`Colorization`]: which colors does a gray image have? Zhang, Isola, Efros 2016, arXiv
//!   1603.08511.
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
//! They share a crate because each is small and they have much in common: each replaces labels with
//! a target that costs nothing, and each has shortcuts that its paper takes care to prevent
//! (continuous edges between tiles, chromatic aberration, gray as the safe prediction). The targets
//! are computed from the view on the device, so the loader needs no knowledge of the task.

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
