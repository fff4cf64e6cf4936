//! Mixup (Zhang et al. 2017, arXiv 1710.09412) and cutmix (Yun et al. 2019, arXiv 1905.04899) as in
//! timm's `mixup.py`: one draw per batch, which is mixed with itself in reverse order.

use portolan_random::Stream;
use portolan_tensor::{Kind, Tensor};
use rand::RngExt;
use std::ops::Range;

/// How images `[n, 3, height, width]` are mixed with the reversed batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mix {
    /// Mixup: each pixel keeps this share of its own image.
    Blend(f64),
    /// Cutmix: these rows and columns come from the other image.
    Paste(Range<i64>, Range<i64>),
}

impl Mix {
    /// Draws mixup by Beta(`mixup`, `mixup`) or cutmix by Beta(`cutmix`, `cutmix`), each half of
    /// the time. If one of them is 0, the other is drawn always; if both are, `None`.
    pub(super) fn draw(
        mixup: f64,
        cutmix: f64,
        [height, width]: [i64; 2],
        random: &mut Stream,
    ) -> Option<Self> {
        let pastes = match (mixup > 0.0, cutmix > 0.0) {
            (true, true) => random.random::<f64>() < 0.5,
            (false, false) => return None,
            (_, cutmix) => cutmix,
        };
        if !pastes {
            return Some(Mix::Blend(beta(mixup, random)));
        }
        let share = beta(cutmix, random);
        let middle = [random.random_range(0..height), random.random_range(0..width)];
        Some(Mix::around(middle, share, [height, width]))
    }

    /// A rectangle with the image's aspect ratio and 1 − `share` of its area, around `middle`,
    /// clipped at the borders.
    fn around(middle: [i64; 2], share: f64, sides: [i64; 2]) -> Self {
        let span = |middle: i64, side: i64| {
            let half = (side as f64 * (1.0 - share).sqrt()) as i64 / 2;
            (middle - half).max(0)..(middle + half).min(side)
        };
        Mix::Paste(span(middle[0], sides[0]), span(middle[1], sides[1]))
    }

    /// The mixed images.
    pub(super) fn images(&self, x: &Tensor) -> Tensor {
        match self {
            Mix::Blend(share) => x * *share + x.flip([0]) * (1.0 - share),
            Mix::Paste(rows, columns) => {
                let part = |x: &Tensor| {
                    x.slice(2, rows.start, rows.end, 1).slice(3, columns.start, columns.end, 1)
                };
                let mixed = x.copy();
                part(&mixed).copy_(&part(&x.flip([0])));
                mixed
            }
        }
    }

    /// The targets of the mixed images, `[n, classes]`, for images `height × width`.
    pub(super) fn targets(&self, targets: &Tensor, [height, width]: [i64; 2]) -> Tensor {
        let share = match self {
            Mix::Blend(share) => *share,
            Mix::Paste(rows, columns) => {
                let pasted = (rows.end - rows.start) * (columns.end - columns.start);
                1.0 - pasted as f64 / (height * width) as f64
            }
        };
        targets * share + targets.flip([0]) * (1.0 - share)
    }
}

/// Smoothed targets `[n, classes]`: 1 − s + s / classes for an image's class and s / classes for
/// the others, where s is `smoothing`.
pub(super) fn smoothed(labels: &[i64], classes: i64, smoothing: f64) -> Tensor {
    let one_hot = Tensor::from_slice(labels).one_hot(classes).to_kind(Kind::Float);
    one_hot * (1.0 - smoothing) + smoothing / classes as f64
}

/// A draw from Beta(α, α) (Jöhnk 1964).
fn beta(alpha: f64, random: &mut Stream) -> f64 {
    loop {
        let mut power = || random.random::<f64>().powf(1.0 / alpha);
        let (x, y) = (power(), power());
        if x + y > 0.0 && x + y <= 1.0 {
            return x / (x + y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_random::{Purpose, stream};

    #[test]
    fn a_rectangle_counts_for_what_the_borders_leave_of_it() {
        // A quarter of 8 × 8 is 4 × 4. Around row 1 and column 6 the borders leave rows 0 to 2 and
        // columns 4 to 7.
        let mix = Mix::around([1, 6], 0.75, [8, 8]);
        assert_eq!(mix, Mix::Paste(0..3, 4..8));
        let x = Tensor::arange(2, (Kind::Float, portolan_tensor::Device::Cpu))
            .view([2, 1, 1, 1])
            .expand([2, 3, 8, 8], false)
            .contiguous();
        let mixed = mix.images(&x);
        let at = |image: i64, row: i64, column: i64| mixed.double_value(&[image, 2, row, column]);
        assert_eq!([at(0, 2, 4), at(0, 3, 4), at(0, 2, 3), at(1, 0, 7)], [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(mixed.get(0).sum(Kind::Float).double_value(&[]), 3.0 * 12.0);
        // 52 of 64 pixels are the image's own.
        let targets = mix.targets(&smoothed(&[0, 1], 2, 0.0), [8, 8]);
        assert_eq!(targets, Tensor::from_slice2(&[[0.8125f32, 0.1875], [0.1875, 0.8125]]));
        assert_eq!(Mix::around([0, 0], 1.0, [8, 8]), Mix::Paste(0..0, 0..0));
        assert_eq!(Mix::around([4, 4], 1.0, [8, 8]).images(&x), x, "nothing is pasted");
    }

    #[test]
    fn a_blend_takes_its_share_of_images_and_targets() {
        let mix = Mix::Blend(0.75);
        let x = Tensor::from_slice(&[8f32, 4.0, 0.0]).view([3, 1, 1, 1]);
        assert_eq!(mix.images(&x).view([3]), Tensor::from_slice(&[6f32, 4.0, 2.0]));
        // Smoothed by 0.2 over two classes: 0.9 and 0.1.
        let targets = mix.targets(&smoothed(&[0, 0, 1], 2, 0.2), [1, 1]);
        let expected = Tensor::from_slice2(&[[0.7f32, 0.3], [0.9, 0.1], [0.3, 0.7]]);
        assert!(targets.allclose(&expected, 1e-6, 1e-6, false));
    }

    #[test]
    fn half_of_the_draws_paste_and_either_alone_always_comes() {
        let mut random = stream(0, Purpose::Mixup, &[1]);
        let mut pasted = |mixup, cutmix| {
            (0..400)
                .filter_map(|_| Mix::draw(mixup, cutmix, [8, 8], &mut random))
                .map(|mix| matches!(mix, Mix::Paste(..)))
                .fold((0, 0), |(all, pasted), paste| (all + 1, pasted + i32::from(paste)))
        };
        let (all, both) = pasted(0.8, 1.0);
        assert!(all == 400 && (150..250).contains(&both), "{both}");
        assert_eq!((pasted(0.8, 0.0), pasted(0.0, 1.0)), ((400, 0), (400, 400)));
        assert_eq!(pasted(0.0, 0.0), (0, 0));
    }

    #[test]
    fn shares_follow_beta() {
        let mut random = stream(0, Purpose::Mixup, &[0]);
        let draws: Vec<f64> = (0..20_000).map(|_| beta(0.8, &mut random)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        assert!((variance - 1.0 / (4.0 * 2.6)).abs() < 0.003, "1 / (4 (2 α + 1)), and {variance}");
    }
}
