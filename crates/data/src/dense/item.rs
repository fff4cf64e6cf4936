//! The interface of dense data: items by index, each an image with maps of its pixels.

use image::{ImageBuffer, Luma, RgbImage};
use portolan_shapes::DepthMap;
use std::fmt;
use std::sync::Arc;

use crate::error::Result;

/// The class of each pixel, counted from 0, or [`IGNORED`].
pub type ClassMap = ImageBuffer<Luma<u16>, Vec<u16>>;

/// The value of pixels that have no class. They are neither trained on nor scored.
pub const IGNORED: u16 = u16::MAX;

/// An image with maps of the same width and height.
#[derive(Clone, Debug)]
pub struct DenseItem {
    /// The image.
    pub image: RgbImage,
    /// Its classes, if it has a mask.
    pub classes: Option<ClassMap>,
    /// Its depth in meters, 0 where it is missing, if it has a depth map.
    pub depth: Option<DepthMap>,
}

/// An indexed collection of images with maps, read from many threads at once.
///
/// Every method takes an `index` below [`len`](DenseSource::len).
pub trait DenseSource: Send + Sync {
    /// The number of items, including those that will fail to decode.
    fn len(&self) -> usize;

    /// The item at `index`.
    ///
    /// # Errors
    /// If a file cannot be read, a map has another size than the image, or a class is unknown.
    fn item(&self, index: usize) -> Result<DenseItem>;

    /// Where the item at `index` is stored, for messages.
    fn describe(&self, index: usize) -> String;

    /// Whether there are no items.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Images with masks, depth maps or both, opened.
#[derive(Clone)]
pub struct DenseDataset {
    /// `shapes`, or the last part of the path.
    pub name: String,
    /// The images to train on.
    pub train: Arc<dyn DenseSource>,
    /// The images to score on.
    pub test: Arc<dyn DenseSource>,
    /// The names of the classes in the order of their numbers; empty if there are no masks.
    pub classes: Vec<String>,
    /// Whether there are depth maps.
    pub has_depth: bool,
    /// Whether each image shows one object, which is all of it that is not of class 0.
    pub single_objects: bool,
    /// What a user should know about the data, a sentence each.
    pub notes: Vec<String>,
}

impl fmt::Debug for DenseDataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DenseDataset")
            .field("name", &self.name)
            .field("train", &self.train.len())
            .field("test", &self.test.len())
            .field("classes", &self.classes.len())
            .field("has_depth", &self.has_depth)
            .field("single_objects", &self.single_objects)
            .finish_non_exhaustive()
    }
}
