//! Views of an image: random crops, colors and blurs for self-supervised learning.
//!
//! Self-supervised methods learn by comparing views of one image, and their views define them as
//! much as their losses. A [`ViewSpec`] specifies one view: an ordered list of operations, from the
//! crop to the normalization, that a recipe contains. [`presets`] has those of the papers, and
//! [`ops`] every operation as a function. [`Draws`] holds the random numbers of a view, and two
//! engines apply them: [`cpu`], and `device` (with the feature of this name) for whole batches on a
//! GPU.
//!
//! ```
//! use image::RgbImage;
//! use portolan_augment::{cpu, presets};
//! use portolan_random::{Purpose, stream};
//!
//! let spec = presets::moco_v2(32);
//! let image = RgbImage::new(500, 375);
//! let (seed, epoch, item, view) = (0, 3, 7, 1);
//!
//! let mut rng = stream(seed, Purpose::View, &[epoch, item, view]);
//! let mut out = vec![0.0; 3 * 32 * 32]; // [3, size, size]: normalized, channel after channel
//! cpu::view(&spec, &image, &mut rng, &mut out);
//! ```
//!
//! # Why the CPU engine works this way
//!
//! It links no libtorch, so that data preparation can be tested, benchmarked and used by itself. An
//! image is cropped and resized as 8-bit RGB: it was decoded to that, and resizing is fastest on
//! it. From there on, a view is three planes of floats in the output itself. Color operations are
//! plain loops over three slices, which the compiler vectorizes, and normalization is the last such
//! loop, not a copy. Nothing is rounded between operations. (torchvision rounds to whole levels
//! after each, a difference of at most one level of 255.)

mod check;
pub mod cpu;
#[cfg(feature = "device")]
pub mod device;
mod draws;
mod error;
pub mod ops;
pub mod presets;
mod spec;

pub use draws::{Adjustment, DrawnOp, Draws};
pub use error::{Error, Result};
pub use ops::Interpolation;
pub use spec::{Op, ViewSpec, Views};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
