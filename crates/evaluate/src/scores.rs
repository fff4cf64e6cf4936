//! Accuracies, confidence intervals and confusion matrices.

use portolan_random::{Purpose, stream};
use portolan_tensor::{Kind, Tensor, no_grad};
use rand::RngExt;
use serde::Serialize;

use crate::error::Result;
use crate::labels;

/// Bootstrap resamples of the test images for the confidence interval.
const RESAMPLES: usize = 1000;
/// The most classes with a confusion matrix: ImageNet's. Larger matrices take much memory.
const MATRIX: i64 = 1_000;

/// How well a classifier does on test images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// The share whose class is predicted.
    pub top1: f64,
    /// The share whose class is among the five best predictions, if there are more than five
    /// classes.
    pub top5: Option<f64>,
    /// The 95 % confidence interval of `top1` over the choice of test images: percentiles of a
    /// bootstrap of 1,000 resamples (Efron 1979). It does not include the variation between runs.
    pub interval: [f64; 2],
    /// How many images of each class (row) were predicted as each class (column), for at most 1,000
    /// classes.
    pub confusion: Option<Vec<Vec<u32>>>,
}

impl Scores {
    /// The scores of these votes or logits, `[n, classes]`, for images of these classes, `[n]`.
    ///
    /// # Errors
    /// When shapes do not match, or a label is not below the number of classes.
    pub fn of(votes: &Tensor, truth: &Tensor) -> Result<Self> {
        let classes = votes.size2()?.1;
        labels::check(truth, votes, classes)?;
        no_grad(|| {
            let (_, ranked) = votes.topk(classes.min(5), 1, true, true);
            let right = ranked.eq_tensor(&truth.view([-1, 1]));
            let hits = Vec::<bool>::try_from(right.select(1, 0))?;
            let share =
                |hits: &Tensor| hits.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
            Ok(Scores {
                top1: share(&right.select(1, 0)),
                top5: (classes > 5).then(|| share(&right.any_dim(1, false))),
                interval: interval(&hits),
                confusion: (classes <= MATRIX)
                    .then(|| confusion(truth, &ranked.select(1, 0), classes))
                    .transpose()?,
            })
        })
    }

    /// The most frequent confusion as (class, predicted class, images); `None` if all are correct.
    pub fn most_confused(&self) -> Option<(usize, usize, u32)> {
        let cells = self.confusion.iter().flatten().enumerate().flat_map(|(truth, row)| {
            row.iter().enumerate().map(move |(predicted, &n)| (truth, predicted, n))
        });
        cells.filter(|(truth, predicted, n)| truth != predicted && *n > 0).max_by_key(|cell| cell.2)
    }
}

/// How many images of each class (row) were predicted as each class (column).
fn confusion(truth: &Tensor, predicted: &Tensor, classes: i64) -> Result<Vec<Vec<u32>>> {
    let cells = truth * classes + predicted;
    let counts = Vec::<i64>::try_from(cells.bincount::<Tensor>(None, classes * classes))?;
    let rows = counts.chunks(classes as usize);
    Ok(rows.map(|row| row.iter().map(|&n| n as u32).collect()).collect())
}

/// The middle 95 % of the mean over resamples of `hits`.
fn interval(hits: &[bool]) -> [f64; 2] {
    let mut random = stream(0, Purpose::Bootstrap, &[hits.len() as u64]);
    let mut mean = |_| {
        let right = hits.iter().filter(|_| hits[random.random_range(0..hits.len())]).count();
        right as f64 / hits.len() as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(&mut mean).collect();
    means.sort_by(f64::total_cmp);
    [means[RESAMPLES * 25 / 1000], means[RESAMPLES * 975 / 1000 - 1]]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shares_confusion_and_interval() {
        let truth: Vec<i64> = (0..700).map(|i| i % 7).collect();
        let truth = Tensor::from_slice(&truth);
        // Correct except for class 6, whose images are predicted as 0 with their own class second.
        let votes = truth.one_hot(7).to_kind(Kind::Float);
        let six = truth.eq(6).to_kind(Kind::Float);
        let _ = votes.select(1, 0).g_add_(&(six * 2.0));
        let scores = Scores::of(&votes, &truth).unwrap();
        assert!((scores.top1 - 6.0 / 7.0).abs() < 1e-12);
        assert_eq!(scores.top5, Some(1.0));
        assert_eq!(scores.most_confused(), Some((6, 0, 100)));
        assert_eq!(scores.confusion.unwrap()[3][3], 100);
        // 1.96 √(p (1 − p) / n) = 0.026 on either side.
        let [low, high] = scores.interval;
        assert!((scores.top1 - low - 0.026).abs() < 0.004, "{low}");
        assert!((high - scores.top1 - 0.026).abs() < 0.004, "{high}");
    }

    #[test]
    fn all_right_leaves_nothing_confused() {
        let truth = Tensor::from_slice(&[0i64, 1, 1]);
        let scores = Scores::of(&truth.one_hot(2), &truth).unwrap();
        assert_eq!((scores.top1, scores.top5, scores.most_confused()), (1.0, None, None));
        assert_eq!(scores.interval, [1.0, 1.0]);
        assert!(Scores::of(&truth.one_hot(2), &Tensor::from_slice(&[0i64, 1, 5])).is_err());
    }
}
