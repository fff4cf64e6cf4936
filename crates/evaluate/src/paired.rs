//! Two encoders on the same test images: whether the second is better.

use portolan_random::{Purpose, stream};
use portolan_tensor::{Tensor, no_grad};
use rand::RngExt;
use serde::Serialize;

use crate::error::{Error, Result};

/// Bootstrap resamples of the test images for the interval.
const RESAMPLES: usize = 1000;

/// Two accuracies on the same images. Since both see the same images, their difference is known far
/// better than either accuracy: only images that one classifies correctly and the other does not
/// count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// The accuracy of the first, a fraction.
    pub before: f64,
    /// The accuracy of the second, a fraction.
    pub after: f64,
    /// Images that only the second classifies correctly.
    pub gained: usize,
    /// Images that only the first classifies correctly.
    pub lost: usize,
    /// The 95 % confidence interval of `after − before` over the choice of test images: percentiles
    /// of a paired bootstrap of 1,000 resamples (Efron 1979). It does not include the variation
    /// between runs.
    pub interval: [f64; 2],
}

impl Paired {
    /// Compares two predictions, `[n]` int64, for images of the classes `truth`, `[n]` int64.
    ///
    /// # Errors
    /// When the three differ in their number of images, or there are none.
    pub fn of(before: &Tensor, after: &Tensor, truth: &Tensor) -> Result<Self> {
        let sizes = [before, after, truth].map(Tensor::size);
        if sizes[0] != sizes[2] || sizes[1] != sizes[2] || sizes[2].len() != 1 || sizes[2][0] < 1 {
            return Err(Error::Shape(format!(
                "paired predictions have to be for the same images; the shapes are {sizes:?}"
            )));
        }
        let hits = |predicted: &Tensor| -> Result<Vec<bool>> {
            Ok(Vec::try_from(no_grad(|| predicted.eq_tensor(truth)))?)
        };
        Ok(Self::of_hits(&hits(before)?, &hits(after)?))
    }

    fn of_hits(before: &[bool], after: &[bool]) -> Self {
        let n = before.len() as f64;
        let changes: Vec<i8> =
            before.iter().zip(after).map(|(&b, &a)| i8::from(a) - i8::from(b)).collect();
        let share = |hits: &[bool]| hits.iter().filter(|&&hit| hit).count() as f64 / n;
        let count = |change: i8| changes.iter().filter(|&&own| own == change).count();
        Paired {
            before: share(before),
            after: share(after),
            gained: count(1),
            lost: count(-1),
            interval: interval(&changes),
        }
    }

    /// `after − before`.
    pub fn difference(&self) -> f64 {
        self.after - self.before
    }
}

/// The middle 95 % of the mean over resamples of the changes.
fn interval(changes: &[i8]) -> [f64; 2] {
    let n = changes.len();
    let mut random = stream(0, Purpose::Bootstrap, &[n as u64]);
    let mut mean = |_| {
        let sum: i64 = (0..n).map(|_| i64::from(changes[random.random_range(0..n)])).sum();
        sum as f64 / n as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(&mut mean).collect();
    means.sort_by(f64::total_cmp);
    [means[RESAMPLES * 25 / 1000], means[RESAMPLES * 975 / 1000 - 1]]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// 1,000 images of class 0: `both` are right before and after, then `gained`, then `lost`.
    fn paired(both: usize, gained: usize, lost: usize) -> Paired {
        let right = |is_right: &dyn Fn(usize) -> bool| -> Tensor {
            let wrong: Vec<i64> = (0..1000).map(|i| i64::from(!is_right(i))).collect();
            Tensor::from_slice(&wrong)
        };
        let before = right(&|i| i < both || (both + gained..both + gained + lost).contains(&i));
        let after = right(&|i| i < both + gained);
        Paired::of(&before, &after, &before.zeros_like()).unwrap()
    }

    #[test]
    fn only_images_that_change_count() {
        let found = paired(700, 60, 20);
        assert_eq!((found.before, found.after), (0.72, 0.76));
        assert_eq!((found.gained, found.lost), (60, 20));
        assert!((found.difference() - 0.04).abs() < 1e-12);
        // 1.96 √((g + l) / n − d²) / √n = 0.0174 on either side; unpaired, it would be 0.038.
        let [low, high] = found.interval;
        assert!((low - (0.04 - 0.0174)).abs() < 0.003, "{low}");
        assert!((high - (0.04 + 0.0174)).abs() < 0.003, "{high}");
        assert_eq!(found, paired(700, 60, 20), "the same every time");
    }

    #[test]
    fn a_difference_that_could_be_chance_has_zero_in_its_interval() {
        let [low, high] = paired(700, 30, 25).interval;
        assert!(low < 0.0 && high > 0.0);
        assert!(paired(700, 20, 60).interval[1] < 0.0);
        assert_eq!(paired(700, 0, 0).interval, [0.0, 0.0]);
    }

    #[test]
    fn other_images_are_refused() {
        let three = Tensor::from_slice(&[0i64, 1, 1]);
        let error = Paired::of(&three, &three.narrow(0, 0, 2), &three).unwrap_err().to_string();
        assert!(error.contains("same images") && error.contains("[2]"), "{error}");
        let none = three.narrow(0, 0, 0);
        assert!(Paired::of(&none, &none, &none).is_err());
    }
}
