//! The accuracies of a run: of its encoder, of its projection head, and of the untrained encoder.

use anyhow::{Context, Result};
use portolan_augment::ViewSpec;
use portolan_data::{Dataset, Source};
use portolan_encoders::Encoder;
use portolan_evaluate::{
    Features, LinearProbe, features, gradient_histogram, knn_predict, knn_top1, pixels, recalibrate,
};
use portolan_method::ImageMethod;
use portolan_report as report;
use portolan_tensor::{Device, Kind, Precision, Tensor};
use portolan_train::Outcome;

use crate::config::RunConfig;
use crate::config::build::build_method;
use crate::encoder_source::eval_view;

/// Images used to recalibrate the batch statistics of an untrained encoder.
const RECALIBRATION: usize = 5_000;

/// Accuracies of one encoder.
pub(crate) struct Accuracies {
    pub(crate) knn: f64,
    pub(crate) probe: f64,
}

/// Features of both splits, the predicted classes of the test images, and the accuracies.
pub(crate) struct Measured {
    pub(crate) bank: Features,
    pub(crate) test: Features,
    /// The classes that kNN predicts, `[test images]`.
    pub(crate) knn: Tensor,
    /// The classes that the linear probe predicts, `[test images]`.
    pub(crate) probe: Tensor,
    pub(crate) accuracies: Accuracies,
}

/// The features of the training and the test split.
///
/// # Errors
/// If images cannot be read, or the data has no test split.
pub(crate) fn both_splits(
    encoder: &dyn Encoder,
    data: &Dataset,
    view: &ViewSpec,
    device: Device,
    precision: Precision,
) -> Result<(Features, Features)> {
    let of = |source: &dyn Source| features(encoder, source, view, device, precision);
    let test = data.test.as_ref().context("the data has no test split")?;
    Ok((of(&*data.train)?, of(&**test)?))
}

/// The kNN and linear probe accuracy of an encoder. Fits on the training split and scores on the
/// test split.
///
/// # Errors
/// If images cannot be read, or the data has no labeled test split.
pub(crate) fn measure(
    encoder: &dyn Encoder,
    config: &RunConfig,
    data: &Dataset,
    device: Device,
) -> Result<Measured> {
    let view = eval_view(config, data);
    let (bank, test) = both_splits(encoder, data, &view, device, config.training.precision)?;
    let classes = data.classes.len() as i64;
    let knn = knn_predict(&bank.x, bank.labels()?, &test.x, classes, &config.evaluation.knn)?;
    let probe = LinearProbe::fit(&bank.x, bank.labels()?, classes)?.predict(&test.x)?;
    let truth = test.labels()?;
    let share = |predicted: &Tensor| {
        predicted.eq_tensor(truth).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
    };
    let accuracies = Accuracies { knn: share(&knn), probe: share(&probe) };
    Ok(Measured { bank, test, knn, probe, accuracies })
}

/// The kNN accuracy alone, for the untrained encoder as it was built.
fn knn_of(
    encoder: &dyn Encoder,
    config: &RunConfig,
    data: &Dataset,
    device: Device,
) -> Result<f64> {
    let (bank, test) =
        both_splits(encoder, data, &eval_view(config, data), device, config.training.precision)?;
    let classes = data.classes.len() as i64;
    Ok(knn_top1(&bank, &test, classes, &config.evaluation.knn)?)
}

/// The kNN accuracy on the outputs of the projection head.
fn head_knn(
    method: &dyn ImageMethod,
    measured: &Measured,
    config: &RunConfig,
    data: &Dataset,
    device: Device,
) -> Result<Option<f64>> {
    let project = |features: &Features| -> Option<Features> {
        let x = method.project(&features.x.to_device(device))?;
        Some(Features {
            x: x.to_device(Device::Cpu).to_kind(Kind::Float),
            labels: features.labels.as_ref().map(Tensor::shallow_clone),
            ids: features.ids.clone(),
            skipped: Vec::new(),
        })
    };
    let Some((bank, test)) = project(&measured.bank).zip(project(&measured.test)) else {
        return Ok(None);
    };
    let classes = data.classes.len() as i64;
    Ok(Some(knn_top1(&bank, &test, classes, &config.evaluation.knn)?))
}

/// The baseline: the encoder before training.
struct Untrained {
    /// The kNN accuracy with the initial batch statistics.
    as_built: f64,
    /// The accuracies with batch statistics recalibrated on training images. Without this, the
    /// baseline may be unfairly low or high.
    recalibrated: Accuracies,
}

fn untrained(config: &RunConfig, data: &Dataset, device: Device) -> Result<Untrained> {
    let method = build_method(config, device)?;
    let as_built = knn_of(method.encoder(), config, data, device)?;
    let view = eval_view(config, data);
    recalibrate(method.encoder(), &*data.train, &view, device, RECALIBRATION, config.seed)?;
    let recalibrated = measure(method.encoder(), config, data, device)?.accuracies;
    Ok(Untrained { as_built, recalibrated })
}

/// The kNN accuracies of features without a network, if the settings want them.
///
/// # Errors
/// If images cannot be read, or the data has no labeled test split.
pub(crate) fn baselines(config: &RunConfig, data: &Dataset) -> Result<Vec<report::Baseline>> {
    if !config.evaluation.baselines {
        return Ok(Vec::new());
    }
    let view = eval_view(config, data);
    let test = data.test.as_ref().context("the data has no test split")?;
    let classes = data.classes.len() as i64;
    type Of = fn(&dyn Source, &ViewSpec) -> portolan_evaluate::Result<Features>;
    let kinds: [(&str, Of); 2] = [("pixels", pixels), ("gradient histogram", gradient_histogram)];
    let measured = kinds.into_iter().map(|(name, of)| {
        let (bank, test) = (of(&*data.train, &view)?, of(&**test, &view)?);
        let knn_top1 = knn_top1(&bank, &test, classes, &config.evaluation.knn)?;
        Ok(report::Baseline { name: name.to_owned(), knn_top1 })
    });
    measured.collect()
}

/// The accuracies of a trained encoder next to those of the untrained one, for the report.
///
/// # Errors
/// If images cannot be read.
pub(crate) fn with_baseline(
    measured: &Measured,
    config: &RunConfig,
    data: &Dataset,
    method: &dyn ImageMethod,
    outcome: &Outcome,
    device: Device,
) -> Result<(report::Knn, report::LinearProbe)> {
    let before = untrained(config, data, device)?;
    let after = &measured.accuracies;
    let knn = report::Knn {
        k: config.evaluation.knn.k,
        temperature: config.evaluation.knn.temperature,
        top1: after.knn,
        best_over_epochs: outcome.best_knn.map_or(after.knn, |best| best.max(after.knn)),
        random_init_top1: before.recalibrated.knn,
        random_init_as_built_top1: Some(before.as_built),
        head_top1: head_knn(method, measured, config, data, device)?,
    };
    let probe =
        report::LinearProbe { top1: after.probe, random_init_top1: before.recalibrated.probe };
    Ok((knn, probe))
}
