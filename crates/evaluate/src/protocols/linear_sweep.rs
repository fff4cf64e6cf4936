//! A linear classifier trained as in papers: by SGD, on new views at every epoch or on fixed
//! features, with several learning rates at once.

use portolan_optim::schedule::cosine_with_warmup;
use portolan_random::{Purpose, stream};
use portolan_tensor::{Device, Tensor};
use rand::seq::SliceRandom;

use crate::error::{Error, Result};
use crate::features::Features;
use crate::labels::{self, accuracy};
use crate::protocols::classifiers::Classifiers;

/// How the classifier is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearConfig {
    /// Passes over the images: 100 in DINO (`eval_linear.py`) and most others, 80 in BYOL (appendix
    /// C.1).
    pub epochs: u64,
    /// Images per step: 256 in MoCo (section 4.1 of v1).
    pub batch_size: i64,
    /// The learning rates to try. Papers sweep them too (BYOL, appendix C.1; DINOv2 trains its grid
    /// in one pass), because the features of one method are a hundred times as long as another's:
    /// MoCo uses 30 and DINO 0.001.
    pub learning_rates: Vec<f64>,
    /// 0.9 in all of these papers.
    pub momentum: f64,
}

impl Default for LinearConfig {
    fn default() -> Self {
        LinearConfig {
            epochs: 100,
            batch_size: 256,
            learning_rates: vec![0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0],
            momentum: 0.9,
        }
    }
}

impl LinearConfig {
    fn validate(&self) -> Result<()> {
        let problem = if self.epochs < 1 || self.batch_size < 1 {
            "a classifier needs at least one epoch and a batch of at least one image"
        } else if self.learning_rates.is_empty() {
            "a classifier needs a learning rate to try"
        } else {
            return Ok(());
        };
        Err(Error::Setting(problem.to_owned()))
    }
}

/// The result of a sweep over learning rates.
#[derive(Debug)]
pub struct LinearSweep {
    /// The learning rate with the best accuracy on the validation images.
    pub learning_rate: f64,
    /// The logits of its classifier for the test images, `[n, classes]`.
    pub logits: Tensor,
}

/// Trains one classifier per learning rate on `bank`, and scores `test` by the one that is best on
/// a validation set: a tenth of the bank, on which none was trained. The test images choose
/// nothing.
///
/// `of_epoch` returns the bank's features at each epoch (`[n, width]`, the same rows every time).
/// The loss is cross-entropy without weight decay, and the learning rates fall along a cosine
/// (DINO, `eval_linear.py`).
///
/// # Errors
/// When a setting is out of range, labels are missing or not below `classes`, or `of_epoch` fails.
pub fn linear_sweep<E: From<Error>>(
    bank: &Features,
    mut of_epoch: impl FnMut(u64) -> Result<Tensor, E>,
    test: &Features,
    classes: i64,
    config: &LinearConfig,
) -> Result<LinearSweep, E> {
    config.validate()?;
    let labels = bank.labels()?;
    labels::check(labels, &bank.x, classes)?;
    let (validation, rest) = split(bank.ids.len())?;
    let truth = labels.index_select(0, &validation);
    let rates = &config.learning_rates;
    let mut sweep =
        Classifiers::new(rates, config.momentum, bank.x.size()[1], classes, Device::Cpu);
    let steps = (rest.len() as i64 / config.batch_size).max(1) as u64;
    for epoch in 0..config.epochs {
        let x = of_epoch(epoch)?;
        let mut order = rest.clone();
        order.shuffle(&mut stream(0, Purpose::Order, &[epoch]));
        let batches = order.chunks(config.batch_size as usize).take(steps as usize);
        for (step, batch) in batches.enumerate() {
            let rows = Tensor::from_slice(batch);
            let (x, labels) = (x.index_select(0, &rows), labels.index_select(0, &rows));
            let done = epoch * steps + step as u64;
            let share = cosine_with_warmup(done, config.epochs * steps, 0, 0.0, 1.0, 0.0);
            sweep.step(&x, &labels, share);
        }
    }
    let x = bank.x.index_select(0, &validation);
    let top1 = |n| accuracy(&sweep.logits(n as i64, &x).argmax(1, false), &truth);
    let by_rate: Vec<f64> = (0..config.learning_rates.len()).map(top1).collect();
    // Among equals the smallest learning rate.
    let best = (0..by_rate.len()).rev().max_by(|&a, &b| by_rate[a].total_cmp(&by_rate[b]));
    let best = best.expect("at least one learning rate");
    Ok(LinearSweep {
        learning_rate: config.learning_rates[best],
        logits: sweep.logits(best as i64, &test.x),
    })
}

/// A random tenth of the rows for validation, and the others for training.
fn split(n: usize) -> Result<(Tensor, Vec<i64>)> {
    if n < 20 {
        return Err(Error::Images(format!(
            "a learning rate is chosen on a tenth of the training images, and there are only {n}"
        )));
    }
    let mut all: Vec<i64> = (0..n as i64).collect();
    all.shuffle(&mut stream(0, Purpose::Subset, &[n as u64]));
    let rest = all.split_off(n / 10);
    Ok((Tensor::from_slice(&all), rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::scores::Scores;
    use portolan_tensor::Kind;

    fn points(n: i64, from: i64) -> Features {
        // Angles on a circle, three sectors.
        let angle = (Tensor::arange_start(from, from + n, (Kind::Float, Device::Cpu)) * 1.7)
            .remainder(std::f64::consts::TAU);
        let labels = (&angle / 2.0944).floor().to_kind(Kind::Int64).clamp(0, 2);
        let x = Tensor::stack(&[angle.cos(), angle.sin()], 1) * 0.1;
        Features { x, labels: Some(labels), ids: (0..n as usize).collect(), skipped: vec![] }
    }

    fn features_of(bank: &Features) -> impl FnMut(u64) -> Result<Tensor> {
        |_| Ok(bank.x.shallow_clone())
    }

    #[test]
    fn a_sweep_finds_a_rate_that_learns() {
        portolan_tensor::tch::set_num_threads(1);
        let (bank, test) = (points(400, 0), points(100, 1000));
        let config = LinearConfig { epochs: 20, batch_size: 40, ..LinearConfig::default() };
        let sweep = linear_sweep(&bank, features_of(&bank), &test, 3, &config).unwrap();
        let scores = Scores::of(&sweep.logits, test.labels().unwrap()).unwrap();
        assert!(scores.top1 > 0.95, "{scores:?}");
        assert!(
            sweep.learning_rate >= 1.0,
            "short features need a high rate, and {} was chosen",
            sweep.learning_rate
        );
        let slow = LinearConfig { learning_rates: vec![1e-6], epochs: 1, ..config };
        let sweep = linear_sweep(&bank, features_of(&bank), &test, 3, &slow).unwrap();
        assert!(Scores::of(&sweep.logits, test.labels().unwrap()).unwrap().top1 < 0.95);
    }

    #[test]
    fn labels_of_the_test_images_choose_nothing() {
        portolan_tensor::tch::set_num_threads(1);
        let (bank, mut test) = (points(100, 0), points(50, 1000));
        let config = LinearConfig { epochs: 2, batch_size: 20, ..LinearConfig::default() };
        let of = |test: &Features| {
            linear_sweep(&bank, features_of(&bank), test, 3, &config).unwrap().logits
        };
        let logits = of(&test);
        test.labels = None;
        assert_eq!(logits, of(&test));
    }
}
