//! The interface of all data: items by index, each an image and perhaps a label.

use image::RgbImage;
use portolan_jpeg::Area;
use std::ops::Range;
use std::sync::Arc;

use crate::decode::decode_region;
use crate::error::Result;

/// One image as its source stores it.
///
/// Loaders decode on their own threads, so reading stays cheap.
#[derive(Clone, Debug)]
pub enum ImageData {
    /// The bytes of an image file, as [`decode`](crate::decode) takes them.
    Encoded(Vec<u8>),
    /// Pixels, eight bits a channel.
    Decoded(RgbImage),
}

impl ImageData {
    /// The pixels; encoded bytes are decoded as by [`decode`](crate::decode).
    ///
    /// # Errors
    /// If the bytes are not a whole image of a supported format.
    pub fn decode(self) -> Result<RgbImage> {
        self.decode_region(|width, height| (0..width, 0..height))
    }

    /// The pixels, of which only the columns and rows that `wanted` returns for a width and height
    /// are needed. The others may be black.
    ///
    /// # Errors
    /// As [`decode`](ImageData::decode).
    pub fn decode_region(self, wanted: impl FnOnce(u32, u32) -> Area) -> Result<RgbImage> {
        match self {
            Self::Encoded(bytes) => decode_region(&bytes, wanted),
            Self::Decoded(image) => Ok(image),
        }
    }
}

/// An indexed collection of images, read from many threads at once.
///
/// Every method takes an `index` below [`len`](Source::len).
pub trait Source: Send + Sync {
    /// The number of items, including those that will fail to decode.
    fn len(&self) -> usize;

    /// The item at `index`.
    ///
    /// # Errors
    /// If the item cannot be read. Sources outside this crate wrap their own errors in
    /// [`Error::Other`](crate::Error::Other).
    fn image(&self, index: usize) -> Result<ImageData>;

    /// The class of the item at `index`, found without reading its image; `None` if it has no
    /// label.
    fn label(&self, index: usize) -> Option<u32>;

    /// Where the item at `index` is stored, for messages: a path, or `row 17 of train.parquet`.
    fn describe(&self, index: usize) -> String;

    /// Runs of items that are stored next to each other in one large file, and are read fastest in
    /// this order. Empty if every order is equally fast.
    fn shards(&self) -> Vec<Range<usize>> {
        Vec::new()
    }

    /// Whether there are no items.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The first `first` items of `source`, or all of them if it has fewer.
pub fn subset(source: Arc<dyn Source>, first: usize) -> Arc<dyn Source> {
    if first >= source.len() {
        return source;
    }
    Arc::new(Subset { source, first })
}

struct Subset {
    source: Arc<dyn Source>,
    first: usize,
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.first
    }

    fn image(&self, index: usize) -> Result<ImageData> {
        self.source.image(index)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(index)
    }

    fn describe(&self, index: usize) -> String {
        self.source.describe(index)
    }

    fn shards(&self) -> Vec<Range<usize>> {
        let all = self.source.shards().into_iter();
        all.filter(|run| run.start < self.first)
            .map(|run| run.start..run.end.min(self.first))
            .collect()
    }
}

/// The items of `source` at these indices, in this order.
pub fn selected(source: Arc<dyn Source>, indices: Vec<usize>) -> Arc<dyn Source> {
    Arc::new(Selected { source, indices })
}

struct Selected {
    source: Arc<dyn Source>,
    indices: Vec<usize>,
}

impl Source for Selected {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn image(&self, index: usize) -> Result<ImageData> {
        self.source.image(self.indices[index])
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(self.indices[index])
    }

    fn describe(&self, index: usize) -> String {
        self.source.describe(self.indices[index])
    }
}

/// The items of `first`, then those of `second`.
pub(crate) fn joined(first: Arc<dyn Source>, second: Arc<dyn Source>) -> Arc<dyn Source> {
    Arc::new(Joined { first, second })
}

struct Joined {
    first: Arc<dyn Source>,
    second: Arc<dyn Source>,
}

impl Joined {
    fn locate(&self, index: usize) -> (&dyn Source, usize) {
        match index.checked_sub(self.first.len()) {
            None => (&*self.first, index),
            Some(index) => (&*self.second, index),
        }
    }
}

impl Source for Joined {
    fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    fn image(&self, index: usize) -> Result<ImageData> {
        let (source, index) = self.locate(index);
        source.image(index)
    }

    fn label(&self, index: usize) -> Option<u32> {
        let (source, index) = self.locate(index);
        source.label(index)
    }

    fn describe(&self, index: usize) -> String {
        let (source, index) = self.locate(index);
        source.describe(index)
    }
}
