//! `report.json`: the figures of a run, and what must be known to judge them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What a run did and reached. Accuracies are fractions in `0..=1`; the page shows them as per cent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The method, as the command line names it (`moco`).
    pub method: String,
    /// The recipe the settings started from (`shapes`).
    pub recipe: String,
    /// The encoder (`resnet18-w16`).
    pub encoder: String,
    /// Epochs trained.
    pub epochs: usize,
    /// Images a step, over all micro-batches.
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
    /// Training images a second; an image counts once, however many views it gives.
    pub images_per_second: f64,
    /// Weighted k-nearest-neighbor accuracy; none where there are no labels.
    pub knn: Option<Knn>,
    /// Accuracy of a linear classifier on the frozen encoder, where one was fitted.
    pub linear_probe: Option<LinearProbe>,
    /// Figures that others published for this method.
    pub published: Vec<Published>,
    /// The encoder's trainable parameters, heads not counted.
    #[serde(default)]
    pub parameters: u64,
    /// What a reader has to know to judge the figures, a sentence each (gradient accumulation, say).
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
    /// SHA-256 over the data: two runs with the same checksum saw the same images.
    pub sha256: String,
    /// Images trained on.
    pub train: usize,
    /// Images scored on.
    pub test: usize,
    /// Number of classes; 0 where the images have no labels.
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
    /// The best of all epochs measured on the test images: optimistic, for it is chosen on them.
    pub best_over_epochs: f64,
    /// The encoder before training, its batch statistics brought up to date with training images.
    pub random_init_top1: f64,
    /// The encoder before training as it was built. On some images this is the better of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_init_as_built_top1: Option<f64>,
    /// After the last epoch, on what the projection head makes of the features; none where there is no head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_top1: Option<f64>,
}

/// Accuracy of a linear classifier fitted on the frozen encoder's training features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearProbe {
    /// After the last epoch.
    pub top1: f64,
    /// The same on the encoder before training.
    pub random_init_top1: f64,
}

/// A figure someone published, and whether this run may be held against it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Who published it, and where.
    pub source: String,
    /// The measure: `knn_top1`, `knn_head_top1` (on the projection head's outputs), `knn_best_over_epochs`
    /// (the source reports its best epoch on the test set) or `linear_probe_top1`; see [`Report::measured`].
    pub metric: String,
    /// The published accuracy, a fraction.
    pub value: f64,
    /// What it was measured on: data, encoder, epochs, protocol.
    pub setting: String,
    /// True only where data (by checksum), encoder, epochs and protocol are the source's.
    pub comparable: bool,
    /// What differs from the source, a few words each (`other data`); empty where comparable.
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
    /// This run's figure for a published `metric`, a fraction; none where it was not measured.
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
    /// Where the folder cannot be written to; an older report is then left as it was.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        let mut text = serde_json::to_string_pretty(self).context("the report is not JSON")?;
        text.push('\n');
        write_whole(&dir.join("report.json"), text.as_bytes())
    }

    /// Reads `report.json` from the folder `dir`.
    ///
    /// # Errors
    /// Where there is none, or it is not a report.
    pub fn read(dir: &Path) -> Result<Report> {
        let path = dir.join("report.json");
        let text = fs::read_to_string(&path).with_context(|| {
            format!("cannot read {}: is this the folder of a finished run?", path.display())
        })?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not a report of Portolan's", path.display()))
    }
}

/// This moment in UTC, as RFC 3339 writes it (`2026-11-22T19:45:00Z`): what [`Report::finished`] holds.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Writes a file aside and renames it, so that a reader finds the old one or the new one whole.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".partial");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().with_context(|| {
        format!("cannot write {}: is there space, and may you write there?", path.display())
    })?;
    Ok(path.to_owned())
}
