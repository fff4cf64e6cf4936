//! A linear classifier trained as papers train it: by SGD, on views drawn anew at every epoch or on fixed features,
//! with several learning rates at once.

use anyhow::{Result, ensure};
use portolan_optim::schedule::cosine_with_warmup;
use portolan_random::{Purpose, stream};
use portolan_tensor::{Device, Kind, Tensor, no_grad};
use rand::seq::SliceRandom;

use crate::Features;
use crate::knn::{accuracy, check_labels};

/// How the classifier is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearConfig {
    /// Passes over the images: 100 in DINO (`eval_linear.py`) and most others, 80 in BYOL (appendix C.1).
    pub epochs: u64,
    /// Images of a step: 256 in MoCo (section 4.1 of v1).
    pub batch_size: i64,
    /// The learning rates, all of which are tried. Papers sweep them too (BYOL, appendix C.1; DINOv2 trains its grid in
    /// one pass): features of one method are a hundred times as long as another's, MoCo wants 30 and DINO 0.001.
    pub rates: Vec<f64>,
    /// 0.9 in all of these papers.
    pub momentum: f64,
}

impl Default for LinearConfig {
    fn default() -> Self {
        LinearConfig {
            epochs: 100,
            batch_size: 256,
            rates: vec![0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0],
            momentum: 0.9,
        }
    }
}

/// Which learning rate was chosen, and the votes it leads to.
#[derive(Debug)]
pub struct Swept {
    /// The rate that did best on the images held back.
    pub rate: f64,
    /// Votes for the test images, `[n, classes]`.
    pub votes: Tensor,
}

/// Trains a classifier a learning rate on `bank`, whose features at each epoch `of_epoch` gives (`[n, width]`, the same
/// rows every time), and scores `test` by the one that does best on a tenth of the bank that none was trained on. The
/// test images choose nothing.
///
/// Plain cross-entropy without weight decay; the rates fall along a cosine (DINO, `eval_linear.py`).
///
/// # Errors
/// When a setting is out of range, labels are missing or none of the `classes`, or features cannot be had.
pub fn linear_sweep(
    bank: &Features,
    mut of_epoch: impl FnMut(u64) -> Result<Tensor>,
    test: &Features,
    classes: i64,
    config: &LinearConfig,
) -> Result<Swept> {
    ensure!(
        config.epochs >= 1 && config.batch_size >= 1,
        "a classifier wants an epoch and a batch"
    );
    ensure!(!config.rates.is_empty(), "a classifier wants a learning rate to try");
    let labels = bank.labels()?;
    check_labels(labels, &bank.x, classes)?;
    let (held, rest) = split(bank.ids.len())?;
    let truth = labels.index_select(0, &held);
    let mut sweep = Sweep::new(config, bank.x.size()[1], classes);
    let steps = (rest.len() as i64 / config.batch_size).max(1) as u64;
    for epoch in 0..config.epochs {
        let x = of_epoch(epoch)?;
        let mut order = rest.clone();
        order.shuffle(&mut stream(0, Purpose::Order, &[epoch]));
        for (step, batch) in
            order.chunks(config.batch_size as usize).take(steps as usize).enumerate()
        {
            let rows = Tensor::from_slice(batch);
            let (x, labels) = (x.index_select(0, &rows), labels.index_select(0, &rows));
            let done = epoch * steps + step as u64;
            let share = cosine_with_warmup(done, config.epochs * steps, 0, 0.0, 1.0, 0.0);
            sweep.step(&x, &labels, share);
        }
    }
    let right = |n: i64, x: &Tensor| accuracy(&sweep.votes(n, x).argmax(1, false), &truth);
    let held_x = bank.x.index_select(0, &held);
    let by_rate: Vec<f64> = (0..config.rates.len() as i64).map(|n| right(n, &held_x)).collect();
    // Of equals the smallest rate.
    let best = (0..by_rate.len()).rev().max_by(|&a, &b| by_rate[a].total_cmp(&by_rate[b]));
    let best = best.expect("there is a rate");
    Ok(Swept { rate: config.rates[best], votes: sweep.votes(best as i64, &test.x) })
}

/// A tenth of the rows to choose the rate by, and the others, both drawn by lot.
fn split(n: usize) -> Result<(Tensor, Vec<i64>)> {
    ensure!(
        n >= 20,
        "a learning rate is chosen on a tenth of the training images, and there are only {n}"
    );
    let mut all: Vec<i64> = (0..n as i64).collect();
    all.shuffle(&mut stream(0, Purpose::Subset, &[n as u64]));
    let rest = all.split_off(n / 10);
    Ok((Tensor::from_slice(&all), rest))
}

/// A classifier a learning rate, trained side by side.
struct Sweep {
    /// `[rates, classes, width + 1]`, the bias last.
    weight: Tensor,
    velocity: Tensor,
    /// `[rates, 1, 1]`.
    rates: Tensor,
    momentum: f64,
}

impl Sweep {
    fn new(config: &LinearConfig, width: i64, classes: i64) -> Self {
        let zeros = || {
            let shape = [config.rates.len() as i64, classes, width + 1];
            Tensor::zeros(shape, (Kind::Float, Device::Cpu))
        };
        let rates = Tensor::from_slice(&config.rates).to_kind(Kind::Float).view([-1, 1, 1]);
        Sweep { weight: zeros(), velocity: zeros(), rates, momentum: config.momentum }
    }

    fn step(&mut self, x: &Tensor, labels: &Tensor, share: f64) {
        no_grad(|| {
            let x = with_one(x);
            let classes = self.weight.size()[1];
            let wanted = labels.one_hot(classes).to_kind(Kind::Float);
            let p = x.matmul(&self.weight.transpose(1, 2)).softmax(-1, None::<Kind>);
            let gradient = (p - wanted).transpose(1, 2).matmul(&x) / x.size()[0] as f64;
            self.velocity = &self.velocity * self.momentum + gradient;
            self.weight -= &self.velocity * (&self.rates * share);
        });
    }

    /// The logits of the `n`-th classifier.
    fn votes(&self, n: i64, x: &Tensor) -> Tensor {
        // A rate that is far too high leaves no numbers: such votes are for nothing.
        with_one(x).matmul(&self.weight.get(n).tr()).nan_to_num(0.0, 0.0, 0.0)
    }
}

fn with_one(x: &Tensor) -> Tensor {
    Tensor::cat(&[x, &Tensor::ones([x.size()[0], 1], (x.kind(), x.device()))], 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Scores;

    fn points(n: i64, from: i64) -> Features {
        // Angles on a circle, three sectors.
        let angle = (Tensor::arange_start(from, from + n, (Kind::Float, Device::Cpu)) * 1.7)
            .remainder(std::f64::consts::TAU);
        let labels = (&angle / 2.0944).floor().to_kind(Kind::Int64).clamp(0, 2);
        let x = Tensor::stack(&[angle.cos(), angle.sin()], 1) * 0.1;
        Features { x, labels: Some(labels), ids: (0..n as usize).collect(), skipped: vec![] }
    }

    #[test]
    fn a_sweep_finds_a_rate_that_learns() {
        portolan_tensor::tch::set_num_threads(1);
        let (bank, test) = (points(400, 0), points(100, 1000));
        let config = LinearConfig { epochs: 20, batch_size: 40, ..LinearConfig::default() };
        let swept = linear_sweep(&bank, |_| Ok(bank.x.shallow_clone()), &test, 3, &config).unwrap();
        let scores = Scores::of(&swept.votes, test.labels().unwrap()).unwrap();
        assert!(scores.top1 > 0.95, "{scores:?}");
        assert!(
            swept.rate >= 1.0,
            "short features want a high rate, and {} was chosen",
            swept.rate
        );
        let slow = LinearConfig { rates: vec![1e-6], epochs: 1, ..config };
        let swept = linear_sweep(&bank, |_| Ok(bank.x.shallow_clone()), &test, 3, &slow).unwrap();
        assert!(Scores::of(&swept.votes, test.labels().unwrap()).unwrap().top1 < 0.95);
    }

    #[test]
    fn labels_of_the_test_images_choose_nothing() {
        portolan_tensor::tch::set_num_threads(1);
        let (bank, mut test) = (points(100, 0), points(50, 1000));
        let config = LinearConfig { epochs: 2, batch_size: 20, ..LinearConfig::default() };
        let of = |test: &Features| {
            linear_sweep(&bank, |_| Ok(bank.x.shallow_clone()), test, 3, &config).unwrap().votes
        };
        let votes = of(&test);
        test.labels = None;
        assert_eq!(votes, of(&test));
    }
}
