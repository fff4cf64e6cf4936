//! Where images come from: the built-in `shapes`, folders, Parquet files, tar shards, CIFAR, STL-10
//! and the IDX files of MNIST and Fashion-MNIST.
//!
//! Everything that trains or evaluates uses one trait, [`Source`]: items by index, each an image,
//! encoded or decoded, and perhaps a label. [`open`] turns the value of `--data` into a [`Dataset`]
//! of such sources. [`open_dense`] does the same for images with masks or depth maps.
//!
//! ```
//! use portolan_data::{Options, open};
//!
//! let shapes = open("shapes", &Options { train: 100, test: 20, ..Options::default() })?;
//! let image = shapes.train.image(7)?.decode()?;
//! assert_eq!(image.dimensions(), (32, 32));
//! let label = shapes.train.label(7).expect("shapes are labeled");
//! println!("{}: a {}", shapes.train.describe(7), shapes.classes[label as usize]);
//! # Ok::<(), portolan_data::Error>(())
//! ```
//!
//! # Why sources return encoded bytes
//!
//! A source is asked by index and returns an image as it is stored. A loader can therefore shuffle
//! as it likes, decode on its own threads, decode only the region that it needs, and skip and count
//! the images that do not decode. The crate knows no tensors.

pub mod catalog;
mod dataset;
mod decode;
mod dense;
mod error;
mod formats;
mod open;
mod source;

pub use catalog::download::default_cache;
pub use dataset::Dataset;
pub use decode::{MAX_PIXELS, decode, decode_region};
pub use dense::images::image_source;
pub use dense::item::{ClassMap, DenseDataset, DenseItem, DenseSource, IGNORED};
pub use dense::open::open_dense;
pub use error::{Error, Result};
pub use formats::folder::unlabeled_folder;
pub use formats::listing::is_image;
pub use formats::memory::in_memory;
pub use formats::pack::{Packed, pack};
pub use open::{Options, open};
pub use portolan_shapes::{self as shapes, Split};
pub use source::{ImageData, Source, selected, subset};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
