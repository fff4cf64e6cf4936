//! What a dense probe works on.

use portolan_augment::ViewSpec;
use portolan_data::DenseSource;
use portolan_tensor::{Device, Precision};
use std::fmt;

/// The data of a dense probe, and where it runs.
pub struct DenseTask<'a> {
    /// The images to train on.
    pub train: &'a dyn DenseSource,
    /// The images to score on.
    pub test: &'a dyn DenseSource,
    /// The view of an evaluation. Pixels are trained on and scored at its size.
    pub view: &'a ViewSpec,
    /// The number of classes; 0 if there are no masks.
    pub classes: usize,
    /// Whether there are depth maps.
    pub has_depth: bool,
    /// The encoder's device.
    pub device: Device,
    /// Arithmetic of the encoder's passes.
    pub precision: Precision,
}

impl fmt::Debug for DenseTask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DenseTask")
            .field("train", &self.train.len())
            .field("test", &self.test.len())
            .field("classes", &self.classes)
            .field("has_depth", &self.has_depth)
            .finish_non_exhaustive()
    }
}
