//! Training and scoring of a dense probe, for the commands that do.

use anyhow::Result;
use portolan_data::DenseDataset;
use portolan_encoders::Encoder;
use portolan_evaluate::{DenseTask, LinearDense, linear_dense};
use portolan_tensor::{Device, seed};

use crate::data::warn_about_items;
use crate::encoder_source::EncoderSource;

/// Trains and scores heads on the frozen patches of `encoder`, which the log calls `what`.
///
/// # Errors
/// If the data has neither masks nor depth maps, or cannot be read.
pub(crate) fn probe(
    trained: &EncoderSource,
    encoder: &dyn Encoder,
    data: &DenseDataset,
    steps: u64,
    device: Device,
    what: &str,
) -> Result<LinearDense> {
    let task = DenseTask {
        train: &*data.train,
        test: &*data.test,
        view: &trained.eval_view(),
        classes: data.classes.len(),
        has_depth: data.has_depth,
        device,
        precision: trained.precision,
    };
    seed(trained.seed);
    let log = |step: u64, losses: &[f64]| {
        let losses: Vec<String> = losses.iter().map(|loss| format!("{loss:.4}")).collect();
        eprintln!("dense probe, {what}: step {step}  loss {}", losses.join(", "));
    };
    let found = linear_dense(encoder, &task, steps, log)?;
    warn_about_items(&found.skipped);
    Ok(found)
}
