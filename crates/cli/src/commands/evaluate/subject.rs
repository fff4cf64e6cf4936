//! The encoder and the data that all protocols evaluate.

use anyhow::{Context, Result};
use portolan_augment::ViewSpec;
use portolan_data::Dataset;
use portolan_evaluate::{Features, Finetuning};
use portolan_tensor::Device;

use crate::args::EvaluateArgs;
use crate::encoder_source::EncoderSource;

pub(super) struct Subject<'a> {
    pub(super) args: &'a EvaluateArgs,
    pub(super) trained: EncoderSource,
    pub(super) data: Dataset,
    pub(super) device: Device,
    pub(super) bank: Features,
    pub(super) test: Features,
    pub(super) classes: i64,
}

impl Subject<'_> {
    /// The labeled images of both splits, with these views.
    ///
    /// # Errors
    /// If there is no test split.
    pub(super) fn labeled<'a>(
        &'a self,
        [train_view, test_view]: &'a [ViewSpec; 2],
    ) -> Result<Finetuning<'a>> {
        Ok(Finetuning {
            train: &*self.data.train,
            train_view,
            test: &**self.data.test.as_ref().context("the data has no test split")?,
            test_view,
            classes: self.classes,
            device: self.device,
            precision: self.trained.precision,
        })
    }
}
