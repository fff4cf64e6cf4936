//! `report.json`: the results of a run, and what a reader must know to judge them.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::file::write_whole;
use crate::start::Start;

/// What a run did and reached. Accuracies are fractions in `0..=1`; the page shows percentages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The method, as the command line names it (`moco`).
    pub method: String,
    /// The recipe that the settings are based on (`shapes`).
    pub recipe: String,
    /// The encoder (`resnet18-w16`).
    pub encoder: String,
    /// Epochs trained.
    pub epochs: usize,
    /// Images per step, over all micro-batches.
    pub batch_size: usize,
    /// The seed of every random stream.
    pub seed: u64,
    /// The images.
    pub dataset: Dataset,
    /// Where it ran (`cpu`, or the GPU's name).
    pub device: String,
    /// `fp32` or `bf16`.
    pub precision: String,
    /// Wall time of training, in seconds.
    pub seconds: f64,
    /// Training images per second; an image counts once, whatever its number of views.
    pub images_per_second: f64,
    /// Weighted k-nearest-neighbor accuracy; `None` without labels.
    pub knn: Option<Knn>,
    /// Accuracy of a linear classifier on the frozen encoder, if one was fitted.
    pub linear_probe: Option<LinearProbe>,
    /// Accuracies of features without a network, on the same images; empty if not measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baselines: Vec<Baseline>,
    /// The encoder that the run started from, beside the trained one; `None` if it started from
    /// random weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Results that others published for this method.
    pub published: Vec<Published>,
    /// Trainable parameters of the encoder, without heads.
    #[serde(default)]
    pub parameters: u64,
    /// The most memory that the run had used when training ended, in bytes: the GPU's, or on a CPU
    /// that of the program; `None` where the system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// What a reader must know to judge the results, a sentence each (gradient accumulation, say).
    #[serde(default)]
    pub notes: Vec<String>,
    /// Images that could not be read.
    #[serde(default)]
    pub skipped: Skipped,
    /// The command line that repeats the run.
    #[serde(default)]
    pub command: String,
    /// Portolan's version.
    #[serde(default)]
    pub version: String,
    /// When the run ended, as [`now`] gives it.
    #[serde(default)]
    pub finished: String,
}

/// The images of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// Its name (`shapes`, or the folder's).
    pub name: String,
    /// SHA-256 of the data: runs with the same checksum saw the same images.
    pub sha256: String,
    /// Images trained on.
    pub train: usize,
    /// Images scored on.
    pub test: usize,
    /// Number of classes; 0 without labels.
    pub classes: usize,
}

/// Weighted k-nearest-neighbor accuracy on the test images, with the training images as the bank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knn {
    /// Neighbors that vote.
    pub k: usize,
    /// Temperature of the votes' weights, `exp(similarity / temperature)`.
    pub temperature: f64,
    /// After the last epoch.
    pub top1: f64,
    /// The best of all measured epochs: optimistic, since it is chosen on the test images.
    pub best_over_epochs: f64,
    /// The untrained encoder, its batch statistics recalibrated on training images.
    pub random_init_top1: f64,
    /// The untrained encoder with its initial batch statistics. On some data this one is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_init_as_built_top1: Option<f64>,
    /// After the last epoch, on the projection head's outputs; `None` without a head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_top1: Option<f64>,
}

/// Accuracy of a linear classifier fitted on the frozen encoder's training features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearProbe {
    /// After the last epoch.
    pub top1: f64,
    /// The same on the untrained encoder.
    pub random_init_top1: f64,
}

/// Accuracies of features that need no training, such as the pixels themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// What the features are.
    pub name: String,
    /// By kNN with the settings of [`Knn`], a fraction.
    pub knn_top1: f64,
}

/// A published result, and whether this run is comparable with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Who published it, and where.
    pub source: String,
    /// The metric: `knn_top1`, `knn_head_top1` (on the projection head's outputs),
    /// `knn_best_over_epochs` (the source reports its best epoch on the test set) or
    /// `linear_probe_top1`; see [`Report::measured`].
    pub metric: String,
    /// The published accuracy, a fraction.
    pub value: f64,
    /// How it was measured: data, encoder, epochs, protocol.
    pub setting: String,
    /// True only if data (by checksum), encoder, epochs and protocol are the source's.
    pub comparable: bool,
    /// What differs from the source, a few words each (`other data`); empty if comparable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

/// Images that could not be read and were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// How many.
    pub count: usize,
    /// The names of the first few.
    pub first: Vec<String>,
}

impl Report {
    /// This run's value of a published `metric`, a fraction; `None` if it was not measured.
    pub fn measured(&self, metric: &str) -> Option<f64> {
        match metric {
            "knn_top1" => self.knn.as_ref().map(|knn| knn.top1),
            "knn_head_top1" => self.knn.as_ref().and_then(|knn| knn.head_top1),
            "knn_best_over_epochs" => self.knn.as_ref().map(|knn| knn.best_over_epochs),
            "linear_probe_top1" => self.linear_probe.as_ref().map(|probe| probe.top1),
            _ => None,
        }
    }

    /// Writes `report.json` into the folder `dir` and returns its path.
    ///
    /// # Errors
    /// When the folder cannot be written to; an older report then stays as it was.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        let mut text = serde_json::to_string_pretty(self).map_err(Error::Serialize)?;
        text.push('\n');
        write_whole(&dir.join("report.json"), text.as_bytes())
    }

    /// Reads `report.json` from the folder `dir`.
    ///
    /// # Errors
    /// When there is none, or it is not a report.
    pub fn read(dir: &Path) -> Result<Report> {
        let path = dir.join("report.json");
        let text = fs::read_to_string(&path)
            .map_err(|source| Error::Read { path: path.clone(), source })?;
        serde_json::from_str(&text).map_err(|source| Error::NotAReport { path, source })
    }
}

/// The current time in UTC by RFC 3339 (`2026-11-22T19:45:00Z`), for [`Report::finished`].
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
