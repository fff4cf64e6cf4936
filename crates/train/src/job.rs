//! The inputs of a run, and its outcome.

use portolan_metrics::MethodTraits;
use portolan_tensor::Device;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::TrainConfig;

/// One run of pretraining.
#[derive(Debug)]
pub struct Job<'a> {
    /// The method's name, kept in checkpoints.
    pub name: &'a str,
    /// The facts about the method by which its metrics are interpreted.
    pub traits: MethodTraits,
    /// The loop's settings.
    pub config: &'a TrainConfig,
    /// The checksum of the data, kept in checkpoints.
    pub checksum: &'a str,
    /// The seed of all randomness.
    pub seed: u64,
    /// The device of the networks.
    pub device: Device,
    /// The run's folder, which exists.
    pub folder: &'a Path,
    /// The checkpoint to resume from.
    pub resume: Option<PathBuf>,
    /// The caller sets it to end the run after the current step.
    pub stop: &'a AtomicBool,
    /// Expected seconds of work after training, added to the displayed remaining time; 0 if
    /// unknown.
    pub afterwards: f64,
    /// Whether the metrics are written for TensorBoard too, as an event file in the run's folder.
    pub tensorboard: bool,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether all epochs are done; otherwise the run was asked to stop.
    pub complete: bool,
    /// Seconds of training, with the evaluations at the end of epochs and those before a
    /// resumption.
    pub seconds: f64,
    /// Training items per second over all of that time.
    pub images_per_second: f64,
    /// The best kNN accuracy of any epoch.
    pub best_knn: Option<f64>,
    /// The items that could not be read, each with its reason.
    pub skipped: Vec<String>,
    /// How often the run went back to a checkpoint, each time at half the learning rate.
    pub rollbacks: u32,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
}
