//! The images of dense data without their maps.

use std::sync::Arc;

use super::item::DenseSource;
use crate::error::Result;
use crate::source::{ImageData, Source};

struct Images(Arc<dyn DenseSource>);

impl Source for Images {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn image(&self, index: usize) -> Result<ImageData> {
        Ok(ImageData::Decoded(self.0.item(index)?.image))
    }

    fn label(&self, _index: usize) -> Option<u32> {
        None
    }

    fn describe(&self, index: usize) -> String {
        self.0.describe(index)
    }
}

/// The images of `source` without their maps and without labels.
pub fn image_source(source: Arc<dyn DenseSource>) -> Arc<dyn Source> {
    Arc::new(Images(source))
}
