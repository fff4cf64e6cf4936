//! Where images come from: the built-in `shapes`, folders, Parquet files, tar shards, CIFAR, STL-10.
//!
//! Everything that trains or evaluates sees one thing, a [`Source`]: items by index, each an encoded or
//! decoded picture with perhaps a label. [`open`] turns what a user writes after `--data` into a
//! [`Dataset`] of such sources.
//!
//! ```
//! use portolan_data::{Options, open};
//!
//! let shapes = open("shapes", &Options { train: 100, test: 20, ..Options::default() })?;
//! let image = shapes.train.picture(7)?.decode()?;
//! assert_eq!(image.dimensions(), (32, 32));
//! let label = shapes.train.label(7).expect("shapes are labeled");
//! println!("{}: a {}", shapes.train.describe(7), shapes.classes[label as usize]);
//! # anyhow::Ok(())
//! ```
//!
//! A source is asked by index, and hands out bytes as they lie: so a loader may shuffle as it likes, decode on
//! its own threads, and skip and count what does not decode. The crate knows no tensors.

mod built_in;
mod cifar;
mod dataset;
mod decode;
mod download;
mod fingerprint;
mod folder;
mod listing;
mod memory;
mod pack;
mod parquet;
pub mod registry;
mod source;
mod splits;
mod stl10;
mod webdataset;

pub use dataset::{Dataset, Options, open};
pub use decode::{MAX_PIXELS, decode, decode_part};
pub use download::default_cache;
pub use folder::photographs;
pub use listing::is_image;
pub use memory::in_memory;
pub use pack::{Packed, pack};
pub use portolan_shapes::{self as shapes, Split};
pub use source::{Picture, Source, subset};
