//! The training loop's task for an image method.

use anyhow::Context;
use portolan_augment::ViewSpec;
use portolan_data::Source;
use portolan_evaluate::{Error, KnnConfig, Result, diagnose, features, knn_top1};
use portolan_method::{ImageMethod, Method};
use portolan_metrics::names;
use portolan_tensor::{Device, Precision};
use portolan_train::{BatchSource, Evaluation, StepPlan, Task};
use std::fmt;
use std::sync::Arc;

use crate::{Augment, Loader, LoaderConfig};

/// An image method, the images it trains on, and how its encoder is evaluated at the end of an
/// epoch.
pub struct ImageTask<'a> {
    /// The method.
    pub method: &'a mut dyn ImageMethod,
    /// The images to train on.
    pub images: Arc<dyn Source>,
    /// The seed of the order and the views.
    pub seed: u64,
    /// The device of the networks.
    pub device: Device,
    /// The arithmetic of the encoder in evaluation.
    pub precision: Precision,
    /// Where views are computed.
    pub augment: Augment,
    /// Threads of the loader.
    pub threads: usize,
    /// Micro-batches in a step.
    pub accumulate: usize,
    /// The view of evaluation.
    pub eval_view: &'a ViewSpec,
    /// kNN at the end of an epoch, where there are labels.
    pub knn: Option<EpochKnn<'a>>,
}

impl fmt::Debug for ImageTask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageTask")
            .field("images", &self.images.len())
            .field("device", &self.device)
            .field("augment", &self.augment)
            .finish_non_exhaustive()
    }
}

/// kNN at the end of an epoch: training images as the bank, test images as the queries.
pub struct EpochKnn<'a> {
    /// Labeled training images.
    pub bank: &'a dyn Source,
    /// Labeled test images.
    pub test: &'a dyn Source,
    /// Neighbors and temperature.
    pub config: &'a KnnConfig,
    /// Number of classes.
    pub classes: i64,
}

impl fmt::Debug for EpochKnn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochKnn")
            .field("config", &self.config)
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

impl Task for ImageTask<'_> {
    fn method(&self) -> &dyn Method {
        &*self.method
    }

    fn method_mut(&mut self) -> &mut dyn Method {
        &mut *self.method
    }

    fn items(&self) -> usize {
        self.images.len()
    }

    fn batches(&self, plan: StepPlan, from: u64) -> anyhow::Result<Box<dyn BatchSource>> {
        let config = LoaderConfig {
            images: Arc::clone(&self.images),
            views: self.method.views().to_vec(),
            plan,
            accumulate: self.accumulate,
            seed: self.seed,
            augment: self.augment,
            device: self.device,
        };
        Ok(Box::new(Loader::start(config, from, self.threads)?))
    }

    fn evaluate(&self, _epoch: u64) -> anyhow::Result<Evaluation> {
        match self.metrics() {
            Ok((metrics, summary)) => Ok(Evaluation::Metrics(metrics, summary)),
            Err(Error::NotFinite) => Ok(Evaluation::NotFinite),
            Err(error) => Err(error).context("the evaluation at the end of the epoch failed"),
        }
    }
}

/// Metrics by name, and a line about them for the user.
type EpochMetrics = (Vec<(&'static str, f64)>, Option<String>);

impl ImageTask<'_> {
    fn metrics(&self) -> Result<EpochMetrics> {
        let (encoder, view) = (self.method.encoder(), self.eval_view);
        let (device, precision) = (self.device, self.precision);
        let training_view = &self.method.views()[0];
        let spread = diagnose(encoder, &*self.images, view, training_view, device, precision)?;
        let mut metrics = vec![
            (names::ALIGNMENT, spread.alignment),
            (names::UNIFORMITY, spread.uniformity),
            (names::KOLEO, spread.koleo),
            (names::FEATURE_RANK, spread.effective_rank),
        ];
        let Some(knn) = &self.knn else { return Ok((metrics, None)) };
        let of = |source| features(encoder, source, view, device, precision);
        let top1 = knn_top1(&of(knn.bank)?, &of(knn.test)?, knn.classes, knn.config)?;
        metrics.push((names::KNN_TOP1, top1));
        let summary = format!("kNN {:.1} %  (k = {})", 100.0 * top1, knn.config.k);
        Ok((metrics, Some(summary)))
    }
}
