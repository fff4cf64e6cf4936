//! How long, in what batches, and at what learning rate.

use anyhow::{Result, ensure};
use portolan_optim::{LrScaling, OptimizerConfig, Schedule};
use portolan_tensor::Precision;
use serde::{Deserialize, Serialize};

use crate::Place;

/// The settings of the training loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training images.
    pub epochs: u64,
    /// Images of one optimiser step.
    pub batch_size: usize,
    /// Into how many micro-batches a step is divided, to save memory. Their gradients add up to the
    /// whole batch's, but negatives and batch statistics are those of a micro-batch.
    pub accumulate: usize,
    /// Arithmetic of the networks' passes.
    pub precision: Precision,
    /// Largest norm of all gradients together; 0 leaves them as they are.
    pub clip_gradients: f64,
    /// The learning rate that the schedule starts from, after scaling.
    pub learning_rate: f64,
    /// How the learning rate grows with the batch.
    pub scaling: LrScaling,
    /// How it changes along training.
    pub schedule: Schedule,
    /// What moves the parameters.
    pub optimizer: OptimizerConfig,
    /// A kNN figure every so many epochs; 0 for none on the way.
    pub knn_every: u64,
    /// A checkpoint every so many minutes, besides the one of every epoch; 0 for none.
    pub checkpoint_minutes: f64,
}

impl TrainConfig {
    /// The learning rate of this step (counted from 0).
    pub fn rate(&self, place: &Place, step: u64) -> f64 {
        let base = self.scaling.scale(self.learning_rate, self.batch_size as u64);
        self.schedule.at(base, step, place.steps_per_epoch(), place.epochs)
    }

    /// Whether these settings make sense with this many training images.
    ///
    /// # Errors
    /// When one does not; the message names it and the remedy.
    pub fn validate(&self, items: usize) -> Result<()> {
        ensure!(self.epochs >= 1, "epochs is 0; train for at least one (--epochs 1)");
        ensure!(self.batch_size >= 2, "batch_size is {}; it must be at least 2", self.batch_size);
        ensure!(
            self.accumulate >= 1 && self.batch_size.is_multiple_of(self.accumulate),
            "accumulate is {}, which does not divide the batch of {}",
            self.accumulate,
            self.batch_size
        );
        ensure!(
            self.batch_size <= items,
            "a batch of {} is larger than the training split of {items} images; \
             choose --batch-size {} or less",
            self.batch_size,
            items
        );
        ensure!(
            self.learning_rate > 0.0 && self.learning_rate.is_finite(),
            "learning_rate is {}; it must be above 0",
            self.learning_rate
        );
        ensure!(self.clip_gradients >= 0.0, "clip_gradients is {}", self.clip_gradients);
        self.optimizer.check()?;
        self.schedule.check(self.epochs)
    }
}
