//! Evaluates the encoder that a run started from beside the trained one.

use anyhow::{Context, Result, ensure};
use portolan_data::Dataset;
use portolan_encoders::{Encoder, build};
use portolan_evaluate::{Diagnostics, Paired, diagnose};
use portolan_interchange::LoadedEncoder;
use portolan_method::ImageMethod;
use portolan_metrics::names;
use portolan_report as report;
use portolan_tensor::{Device, Tensor, Vars};
use std::path::Path;

use super::FILE;
use crate::config::RunConfig;
use crate::encoder_source::eval_view;
use crate::run::scores::{Measured, measure};

/// Without labels, features that fill less than this share of their former dimensions speak of
/// harm.
const LESS_RANK: f64 = 0.5;
/// The same of uniformity, which goes from 0, where all images are one point, to about −4.
const LESS_UNIFORM: f64 = 0.5;

/// What training has changed: accuracies where there are labels (`after` is measured), what shows
/// without labels otherwise. `None` for a run that started from random weights.
///
/// # Errors
/// If images cannot be read, or the starting point is gone.
pub(crate) fn compare(
    config: &RunConfig,
    data: &Dataset,
    method: &dyn ImageMethod,
    after: Option<&Measured>,
    folder: &Path,
    device: Device,
) -> Result<Option<report::Start>> {
    let file = folder.join(FILE);
    if config.init.is_empty() || !file.exists() {
        return Ok(None); // or a run from before starting points were kept
    }
    let found = LoadedEncoder::open(&file, None)?;
    let before = build(&config.encoder, &Vars::new(device))?;
    found.copy_into(&before.vars().state(), &config.encoder)?;
    let signals = signals(&*before, config, data, method, device)?;
    let changes = after.map(|after| changes(&*before, config, data, after, device)).transpose()?;
    let verdict = match &changes {
        Some([knn, probe]) => {
            format!("{}; {}.", knn.sentence("kNN"), probe.sentence("linear probe"))
        }
        None => without_labels(&signals),
    };
    let [knn, linear_probe] = changes.map_or([None, None], |changes| changes.map(Some));
    let source = config.init.clone();
    Ok(Some(report::Start { source, file: FILE.to_owned(), knn, linear_probe, signals, verdict }))
}

/// The changes of kNN and of the linear probe.
fn changes(
    before: &dyn Encoder,
    config: &RunConfig,
    data: &Dataset,
    after: &Measured,
    device: Device,
) -> Result<[report::Change; 2]> {
    let before = measure(before, config, data, device).context("of the starting point")?;
    ensure!(
        before.test.ids == after.test.ids,
        "other test images could be read than a moment ago; repair them, and resume the run"
    );
    let truth = after.test.labels()?;
    let change = |before: &Tensor, after: &Tensor| -> Result<report::Change> {
        let Paired { before, after, gained, lost, interval } = Paired::of(before, after, truth)?;
        Ok(report::Change { before, after, interval, gained, lost })
    };
    Ok([change(&before.knn, &after.knn)?, change(&before.probe, &after.probe)?])
}

/// The diagnostics of both encoders on the run's images.
fn signals(
    before: &dyn Encoder,
    config: &RunConfig,
    data: &Dataset,
    method: &dyn ImageMethod,
    device: Device,
) -> Result<Vec<report::Signal>> {
    let (images, view) = (data.pretraining(), eval_view(config, data));
    let (of_training, precision) = (&method.views()[0], config.training.precision);
    let of = |encoder: &dyn Encoder| -> Result<Diagnostics> {
        Ok(diagnose(encoder, &*images, &view, of_training, device, precision)?)
    };
    let (before, after) = (of(before)?, of(method.encoder())?);
    let signal = |name: &str, value: fn(&Diagnostics) -> f64| report::Signal {
        name: name.to_owned(),
        before: value(&before),
        after: value(&after),
    };
    Ok(vec![
        signal(names::FEATURE_RANK, |found| found.effective_rank),
        signal(names::UNIFORMITY, |found| found.uniformity),
        signal(names::ALIGNMENT, |found| found.alignment),
        signal(names::KOLEO, |found| found.koleo),
    ])
}

/// What the signals say. They can show harm, but not that training helped.
fn without_labels(signals: &[report::Signal]) -> String {
    let of = |name: &str| signals.iter().find(|signal| signal.name == name);
    let change =
        |signal: &report::Signal| format!("{:.2} before, {:.2} after", signal.before, signal.after);
    let fell = |name: &str, share: f64| {
        of(name).is_some_and(|signal| signal.after.abs() < share * signal.before.abs())
    };
    let texts: Vec<String> = signals
        .iter()
        .map(|signal| format!("{} {}", signal.name.replace('_', " "), change(signal)))
        .collect();
    let said = if fell(names::FEATURE_RANK, LESS_RANK) {
        "it probably hurt: the features use far fewer dimensions"
    } else if fell(names::UNIFORMITY, LESS_UNIFORM) {
        "it probably hurt: the features of different images have crowded together"
    } else {
        "no sign of harm; whether it helped, only labels can show"
    };
    format!("Without labels: {}: {said}.", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(rank: f64, uniformity: f64) -> String {
        let signal =
            |name: &str, before, after| report::Signal { name: name.to_owned(), before, after };
        without_labels(&[
            signal(names::FEATURE_RANK, 40.0, rank),
            signal(names::UNIFORMITY, -3.0, uniformity),
        ])
    }

    #[test]
    fn without_labels_harm_shows_and_help_does_not() {
        assert!(said(35.0, -2.8).contains("no sign of harm"), "{}", said(35.0, -2.8));
        assert!(said(35.0, -2.8).contains("feature rank 40.00 before, 35.00 after"));
        assert!(said(3.0, -2.8).contains("fewer dimensions"));
        assert!(said(35.0, -0.4).contains("crowded"));
    }
}
