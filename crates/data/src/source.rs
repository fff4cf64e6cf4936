//! What every kind of data offers: items by index, each a picture with perhaps a label.

use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use image::RgbImage;
use portolan_jpeg::Area;

use crate::decode::decode_part;

/// No file may name a class beyond: its number decides how much is reserved for class names.
pub(crate) const MAX_LABEL: u32 = 999_999;

/// One image as it lies in its source.
///
/// Loaders take encoded bytes to their own threads and decode them there, so reading stays cheap.
#[derive(Clone, Debug)]
pub enum Picture {
    /// The bytes of an image file, as [`decode`](crate::decode) takes them.
    Encoded(Vec<u8>),
    /// Pixels, eight bits a channel.
    Decoded(RgbImage),
}

impl Picture {
    /// The pixels, decoded as [`decode`](crate::decode) does where they are not decoded yet.
    ///
    /// # Errors
    /// Where the bytes are not a whole image of a supported format.
    pub fn decode(self) -> Result<RgbImage> {
        self.decode_part(|width, height| (0..width, 0..height))
    }

    /// The same where only some columns and rows are looked at, which `wanted` tells from width and height; the others may be black.
    ///
    /// # Errors
    /// As those of [`decode`](Picture::decode).
    pub fn decode_part(self, wanted: impl FnOnce(u32, u32) -> Area) -> Result<RgbImage> {
        match self {
            Self::Encoded(bytes) => decode_part(&bytes, wanted),
            Self::Decoded(image) => Ok(image),
        }
    }
}

/// An indexed collection of pictures, read from many threads at once.
///
/// Every method takes an `index` below [`len`](Source::len).
pub trait Source: Send + Sync {
    /// How many items there are, those that will fail to decode included.
    fn len(&self) -> usize;

    /// The item at `index`.
    ///
    /// # Errors
    /// Where the item cannot be read.
    fn picture(&self, index: usize) -> Result<Picture>;

    /// The class of the item at `index`, without reading its picture; `None` where the data has no labels.
    fn label(&self, index: usize) -> Option<u32>;

    /// Where the item at `index` lies, for messages: a path, or `row 17 of train.parquet`.
    fn describe(&self, index: usize) -> String;

    /// Runs of items that lie one after another in one large file, and are best read in this order; empty where every order is as
    /// good.
    fn shards(&self) -> Vec<Range<usize>> {
        Vec::new()
    }

    /// Whether there is no item at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The first `first` items of `source` (all of them where it has fewer).
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

    fn picture(&self, index: usize) -> Result<Picture> {
        self.source.picture(index)
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

    fn picture(&self, index: usize) -> Result<Picture> {
        let (source, index) = self.locate(index);
        source.picture(index)
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
