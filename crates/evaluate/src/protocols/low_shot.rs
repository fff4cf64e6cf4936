//! Low-shot classification: a linear probe with few labels.

use portolan_random::{Purpose, stream};
use portolan_tensor::Tensor;
use rand::seq::SliceRandom;

use super::probe::LinearProbe;
use crate::error::{Error, Result};
use crate::features::Features;
use crate::scores::Scores;

/// How many of the labels are used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shots {
    /// A share of each class's images, at least one: 1 % and 10 % in SimCLR (section 6) and after
    /// it.
    Share(f64),
    /// This many images of each class.
    PerClass(usize),
}

/// How often the labeled images are drawn, since accuracies of a single draw scatter.
const DRAWS: u64 = 5;

/// The accuracies of all draws.
#[derive(Clone, Debug, PartialEq)]
pub struct LowShot {
    /// Labeled images per draw.
    pub labeled: usize,
    /// The accuracy of each draw.
    pub top1: Vec<f64>,
}

impl LowShot {
    /// The mean over draws, and their standard deviation.
    pub fn mean_and_deviation(&self) -> (f64, f64) {
        let n = self.top1.len() as f64;
        let mean = self.top1.iter().sum::<f64>() / n;
        let squares: f64 = self.top1.iter().map(|top1| (top1 - mean).powi(2)).sum();
        (mean, (squares / n).sqrt())
    }
}

/// Fits a [`LinearProbe`] to the frozen features of a few labeled images and scores it on all of
/// `test`, for five draws of the images. Papers fine-tune on them, or fit a classifier as here
/// (MSN, section 4.1, arXiv 2204.07141), which has no settings to tune on so few labels.
///
/// # Errors
/// When there are no labels, or a class has fewer images than requested.
pub fn low_shot(bank: &Features, test: &Features, classes: i64, shots: Shots) -> Result<LowShot> {
    let labels = Vec::<i64>::try_from(bank.labels()?)?;
    let mut top1 = Vec::new();
    let mut labeled = 0;
    for draw in 0..DRAWS {
        let rows = labeled_rows(&labels, classes, shots, draw)?;
        labeled = rows.len();
        let rows: Vec<i64> = rows.into_iter().map(|row| row as i64).collect();
        let rows = Tensor::from_slice(&rows);
        let of = (bank.x.index_select(0, &rows), bank.labels()?.index_select(0, &rows));
        let probe = LinearProbe::fit(&of.0, &of.1, classes)?;
        top1.push(Scores::of(&probe.logits(&test.x)?, test.labels()?)?.top1);
    }
    Ok(LowShot { labeled, top1 })
}

/// The rows of a few labeled images, drawn at random from each class.
///
/// # Errors
/// When a class has fewer images than requested.
pub fn labeled_rows(labels: &[i64], classes: i64, shots: Shots, draw: u64) -> Result<Vec<usize>> {
    let mut all = Vec::new();
    for class in 0..classes {
        let mut rows: Vec<usize> = (0..labels.len()).filter(|&row| labels[row] == class).collect();
        if rows.is_empty() {
            continue; // no image has this label
        }
        let wanted = match shots {
            Shots::Share(share) => ((rows.len() as f64 * share).round() as usize).max(1),
            Shots::PerClass(n) => n,
        };
        if !(1..=rows.len()).contains(&wanted) {
            return Err(Error::Setting(format!(
                "{wanted} labeled images of each class are asked for, and class {class} has {}",
                rows.len()
            )));
        }
        rows.shuffle(&mut stream(draw, Purpose::Subset, &[class as u64]));
        all.extend(&rows[..wanted]);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_class_gives_its_share_and_draws_differ() {
        let labels: Vec<i64> = (0..100).map(|i| i64::from(i >= 60)).collect();
        let count = |rows: &[usize]| {
            let ones = rows.iter().filter(|&&row| labels[row] == 1).count();
            (rows.len() - ones, ones)
        };
        let tenth = labeled_rows(&labels, 2, Shots::Share(0.1), 0).unwrap();
        assert_eq!(count(&tenth), (6, 4));
        assert_ne!(tenth, labeled_rows(&labels, 2, Shots::Share(0.1), 1).unwrap());
        assert_eq!(count(&labeled_rows(&labels, 2, Shots::Share(0.001), 0).unwrap()), (1, 1));
        assert_eq!(count(&labeled_rows(&labels, 2, Shots::PerClass(3), 0).unwrap()), (3, 3));
        let error = labeled_rows(&labels, 2, Shots::PerClass(41), 0).unwrap_err().to_string();
        assert!(error.contains("class 1 has 40"), "{error}");
    }

    #[test]
    fn more_labels_do_not_hurt() {
        portolan_tensor::tch::set_num_threads(1);
        let labels: Vec<i64> = (0..300).map(|i| i % 3).collect();
        let labels = Tensor::from_slice(&labels);
        let float = (portolan_tensor::Kind::Float, portolan_tensor::Device::Cpu);
        let noise = (Tensor::arange(900, float).square() * 0.37).sin().view([300, 3]) * 1.4;
        let x = labels.one_hot(3).to_kind(portolan_tensor::Kind::Float) * 2.0 + noise;
        let of = |from: i64| Features {
            x: x.narrow(0, from, 150),
            labels: Some(labels.narrow(0, from, 150)),
            ids: (0..150).collect(),
            skipped: vec![],
        };
        let mean = |shots| low_shot(&of(0), &of(150), 3, shots).unwrap().mean_and_deviation().0;
        let (few, many) = (mean(Shots::PerClass(1)), mean(Shots::PerClass(40)));
        assert!(many > few + 0.03, "{few} {many}");
        assert!(many > 0.75);
    }
}
