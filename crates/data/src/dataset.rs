//! A data set that has been opened.

use std::fmt;
use std::sync::Arc;

use crate::source::{Source, joined, subset};

/// A data set, opened.
#[derive(Clone)]
pub struct Dataset {
    /// `shapes`, `cifar10`, … or the last part of the path.
    pub name: String,
    /// The images for training, and for fitting the classifiers of an evaluation.
    pub train: Arc<dyn Source>,
    /// More images for pretraining, which have no labels: those of STL-10, and those beside class
    /// folders.
    pub unlabeled: Option<Arc<dyn Source>>,
    /// The images for scoring, if the data says which these are.
    pub test: Option<Arc<dyn Source>>,
    /// Names in the order of the labels; empty if there are no labels.
    pub classes: Vec<String>,
    /// Mean of each channel, of pixel values in [0, 1];
    /// [`normalization_for`](crate::catalog::normalization_for) says which.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, likewise.
    pub std: [f32; 3],
    /// Identifies the data, to tell whether two figures are comparable: a SHA-256 over all files
    /// (see `docs/data.md`), or `sizes:` and one over names and sizes if they have more than 2 GiB.
    pub sha256: String,
    /// Whether these are known to be the published data: downloaded here, with the published
    /// checksum.
    pub verified: bool,
    /// What a user should know about the data, a sentence each: `left out: 3 .heic, 1 .txt`.
    pub notes: Vec<String>,
}

impl Dataset {
    /// The images for pretraining: those for training, then those without labels.
    pub fn pretraining(&self) -> Arc<dyn Source> {
        match &self.unlabeled {
            Some(more) => joined(Arc::clone(&self.train), Arc::clone(more)),
            None => Arc::clone(&self.train),
        }
    }

    /// Keeps the first `limit` images for pretraining.
    pub fn limit(&mut self, limit: usize) {
        let rest = limit.saturating_sub(self.train.len());
        self.train = subset(Arc::clone(&self.train), limit);
        self.unlabeled = self.unlabeled.take().filter(|_| rest > 0).map(|more| subset(more, rest));
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |source: &Option<Arc<dyn Source>>| source.as_ref().map(|source| source.len());
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("train", &self.train.len())
            .field("unlabeled", &count(&self.unlabeled))
            .field("test", &count(&self.test))
            .field("classes", &self.classes.len())
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}
