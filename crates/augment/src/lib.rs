//! Views of an image: what is drawn from it before a network sees it.
//!
//! Self-supervised methods learn by comparing views of one image, and each is defined as much by its
//! views as by its loss. A [`ViewSpec`] says what one view is: an ordered list of operations, from the
//! crop to the normalization, that is read from and written to a recipe. [`presets`] holds those of the
//! papers, [`cpu`] makes views of them, and [`ops`] has every operation as a function of its own. With the feature
//! `device` there is a second engine, for whole batches on a GPU.
//!
//! ```
//! use image::RgbImage;
//! use portolan_augment::{cpu, presets};
//! use portolan_random::{Purpose, stream};
//!
//! let spec = presets::moco_v2(32);
//! let photograph = RgbImage::new(500, 375);
//! let (seed, epoch, item, view) = (0, 3, 7, 1);
//!
//! let mut rng = stream(seed, Purpose::View, &[epoch, item, view]);
//! let mut out = vec![0.0; 3 * 32 * 32]; // [3, size, size]: normalized, channel after channel
//! cpu::view(&spec, &photograph, &mut rng, &mut out);
//! ```
//!
//! # Why so
//!
//! Without that feature, views are made on the CPU by code that links no libtorch, so that data preparation can be
//! tested, benchmarked and used by itself. The source is cropped and resized as 8-bit RGB, which is how it was
//! decoded and what resizing is fastest on. From there on a view is three planes of floats that lie
//! in the output itself: color operations become plain loops over three slices, which the compiler
//! vectorizes, nothing is rounded between operations (torchvision cuts to whole levels after each, which is
//! at most one level of 255 apiece), and normalization is the last such loop, not a copy.

pub mod cpu;
#[cfg(feature = "device")]
pub mod device;
mod draws;
pub mod ops;
pub mod presets;
mod spec;

pub use draws::Draws;
pub use spec::{Interpolation, Op, ViewSpec, Views};
