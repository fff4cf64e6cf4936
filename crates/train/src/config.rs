//! The settings of the training loop.

use anyhow::{Result, ensure};
use portolan_optim::{Decay, LrScaling, OptimizerConfig, Schedule, schedule::cosine_with_warmup};
use portolan_tensor::{Device, Precision, distributed};
use serde::{Deserialize, Serialize};

use crate::StepPlan;

/// The settings of the training loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training images.
    pub epochs: u64,
    /// Images of one optimizer step.
    pub batch_size: usize,
    /// Number of micro-batches of a step, which save memory. Their gradients add up to the whole
    /// batch's, but negatives and batch statistics are those of a micro-batch.
    pub accumulate: usize,
    /// Arithmetic of the networks' passes.
    pub precision: Precision,
    /// Whether to capture the step as a CUDA graph and replay it (`--cuda-graph`).
    #[serde(default)]
    pub cuda_graph: bool,
    /// Largest norm of all gradients together; 0 turns clipping off.
    pub clip_gradients: f64,
    /// Which parameters decay and are adapted by LARS.
    pub decay: Decay,
    /// The weight decay at the end, reached along a cosine (DINO, section 3.2). If absent, the
    /// weight decay is constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_weight_decay: Option<f64>,
    /// The learning rate that the schedule starts from, before scaling.
    pub learning_rate: f64,
    /// How the learning rate grows with the batch.
    pub scaling: LrScaling,
    /// How it changes along training.
    pub schedule: Schedule,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Epochs between kNN evaluations; 0 for none during training.
    pub knn_every: u64,
    /// Minutes between checkpoints, in addition to that of every epoch; 0 for none.
    pub checkpoint_minutes: f64,
    /// The share of training images that may be unreadable. With more, and more than ten, the run
    /// stops.
    #[serde(default = "one_percent")]
    pub max_bad: f64,
    /// What to do when the loss is no longer a number, or the representation has collapsed.
    #[serde(default)]
    pub on_divergence: OnDivergence,
}

/// What to do when the loss is no longer a number, or the representation has collapsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDivergence {
    /// Warn if the representation has collapsed; stop if the loss is not finite.
    #[default]
    #[serde(alias = "tell")] // its name up to 0.1
    Warn,
    /// Stop.
    Stop,
    /// Return to the last good checkpoint and continue at half the learning rate, at most five
    /// times.
    Rollback,
}

fn one_percent() -> f64 {
    0.01
}

impl TrainConfig {
    /// The learning rate that the schedule starts from, scaled with the batch.
    pub fn base_rate(&self) -> f64 {
        self.scaling.scale(self.learning_rate, self.batch_size as u64)
    }

    /// The learning rate of this step (counted from 0).
    pub fn rate(&self, plan: &StepPlan, step: u64) -> f64 {
        self.schedule.at(self.base_rate(), step, plan.steps_per_epoch(), plan.epochs)
    }

    /// The weight decay of this step (counted from 0), where it changes.
    pub fn weight_decay(&self, plan: &StepPlan, step: u64) -> Option<f64> {
        let (first, last) = (self.optimizer.weight_decay(), self.final_weight_decay?);
        Some(cosine_with_warmup(step, plan.total_steps(), 0, 0.0, first, last))
    }

    /// Checks the settings for this many training images on this device.
    ///
    /// # Errors
    /// When a setting is invalid; the message names it and the remedy.
    pub fn validate(&self, items: usize, device: Device) -> Result<()> {
        ensure!(self.epochs >= 1, "epochs is 0; train for at least one (--epochs 1)");
        ensure!(self.batch_size >= 2, "batch_size is {}; it must be at least 2", self.batch_size);
        ensure!(
            self.accumulate >= 1 && self.batch_size.is_multiple_of(self.accumulate),
            "accumulate is {}, which does not divide the batch of {}",
            self.accumulate,
            self.batch_size
        );
        let parts = self.accumulate * distributed::world_size();
        ensure!(
            self.batch_size.is_multiple_of(parts) && self.batch_size / parts >= 2,
            "batch_size is {}, of all processes together; it must be a multiple of their \
             number times accumulate, {parts}, and leave at least two images to each",
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
        let last = self.final_weight_decay.unwrap_or(0.0);
        ensure!(
            last >= 0.0 && last.is_finite(),
            "final_weight_decay is {last}; it cannot be negative"
        );
        ensure!(
            device.is_cuda() || !self.cuda_graph,
            "cuda_graph wants a GPU to train on, and this run is on the CPU; leave --cuda-graph out"
        );
        ensure!(
            distributed::world_size() == 1 || !self.cuda_graph,
            "cuda_graph is for one process, and this job has several; leave --cuda-graph out"
        );
        let adamw = matches!(self.optimizer, OptimizerConfig::Adamw { .. });
        ensure!(
            adamw || !self.cuda_graph || self.final_weight_decay.is_none(),
            "with cuda_graph the weight decay can change (final_weight_decay) for AdamW \
             alone; leave one out"
        );
        ensure!(
            (0.0..=1.0).contains(&self.max_bad),
            "max_bad is {}; it is a share, from 0 to 1",
            self.max_bad
        );
        ensure!(self.clip_gradients >= 0.0, "clip_gradients is {}", self.clip_gradients);
        self.optimizer.validate()?;
        Ok(self.schedule.validate(self.epochs)?)
    }
}
