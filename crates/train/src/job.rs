//! What a run works with, and how it ended.

use portolan_augment::ViewSpec;
use portolan_data::Source;
use portolan_evaluate::KnnConfig;
use portolan_tensor::Device;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::{Augment, TrainConfig};

/// One run of pretraining.
pub struct Job<'a> {
    /// The method's name, kept in checkpoints.
    pub name: &'a str,
    /// The loop's settings.
    pub config: &'a TrainConfig,
    /// The images to train on.
    pub images: Arc<dyn Source>,
    /// Their checksum, kept in checkpoints.
    pub checksum: &'a str,
    /// What all randomness is named by.
    pub seed: u64,
    /// Where the networks live.
    pub device: Device,
    /// Where views are made.
    pub augment: Augment,
    /// The run's folder, which exists.
    pub folder: &'a Path,
    /// Threads of the loader.
    pub threads: usize,
    /// The checkpoint to go on from.
    pub resume: Option<PathBuf>,
    /// Set from outside to end the run after the step in progress.
    pub stop: &'a AtomicBool,
    /// The plain view of evaluation.
    pub eval_view: &'a ViewSpec,
    /// kNN on the way, where there are labels.
    pub knn: Option<KnnPoint<'a>>,
    /// Seconds that the work after training will take, for the time that is shown as left; 0 where unknown.
    pub afterwards: f64,
    /// Whether the metrics file is written for TensorBoard too, as an event file in the run's folder.
    pub tensorboard: bool,
}

/// How the kNN figure on the way is made: training images as the bank, test images as the queries.
pub struct KnnPoint<'a> {
    /// Labeled training images.
    pub bank: &'a dyn Source,
    /// Labeled test images.
    pub test: &'a dyn Source,
    /// Neighbors and temperature.
    pub config: &'a KnnConfig,
    /// Number of classes.
    pub classes: i64,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whether all epochs are done; otherwise the run was asked to stop.
    pub complete: bool,
    /// Seconds of training, kNN on the way included, those before a resumption too.
    pub seconds: f64,
    /// Training images a second over all of that time.
    pub images_per_second: f64,
    /// Best kNN accuracy on the way.
    pub best_knn: Option<f64>,
    /// The images that could not be read, each with its reason.
    pub skipped: Vec<String>,
    /// How often it went back to a checkpoint, to go on at half the learning rate.
    pub rollbacks: u32,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
}
