//! The random part of a view, drawn before any pixel is touched.

use portolan_random::Stream;
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::ops::{self, Change, Interpolation, Region};
use crate::spec::{Op, ViewSpec};

/// One view of each image of a batch, with everything random in it drawn. Both engines make it.
///
/// An operation draws all its numbers for an image whether it is applied or not, so changing a
/// probability leaves the draws of other operations as they were. (Only the crop may need several
/// tries.)
#[derive(Clone, Debug, PartialEq)]
pub struct Draws {
    size: usize,
    ops: Vec<DrawnOp>,
}

/// One operation of a view with what was drawn for it. Vectors have an element for each image of
/// the batch.
#[derive(Clone, Debug, PartialEq)]
pub enum DrawnOp {
    /// [`Op::RandomResizedCrop`].
    RandomResizedCrop {
        /// The part of each image that is kept.
        regions: Vec<Region>,
        /// How pixels are resampled.
        interpolation: Interpolation,
    },
    /// [`Op::CenterCrop`], which draws nothing.
    CenterCrop {
        /// Length of the short side after resizing, in pixels.
        resize: u32,
        /// How pixels are resampled.
        interpolation: Interpolation,
    },
    /// [`Op::HorizontalFlip`].
    HorizontalFlip {
        /// Whether each image is flipped.
        applied: Vec<bool>,
    },
    /// [`Op::ColorJitter`].
    ColorJitter {
        /// Whether each image is changed.
        applied: Vec<bool>,
        /// The four changes in their order, which all images share: a change is then one operation
        /// on the batch.
        adjustments: [Adjustment; 4],
    },
    /// [`Op::Grayscale`].
    Grayscale {
        /// Whether each image is changed.
        applied: Vec<bool>,
    },
    /// [`Op::GaussianBlur`].
    GaussianBlur {
        /// Whether each image is blurred.
        applied: Vec<bool>,
        /// Standard deviations, in pixels.
        sigma: Vec<f64>,
        /// Width of the kernel, in pixels.
        kernel: u32,
    },
    /// [`Op::Solarize`].
    Solarize {
        /// Whether each image is changed.
        applied: Vec<bool>,
        /// First level of 0 to 255 that is inverted.
        threshold: u8,
    },
    /// [`Op::RandAugment`]. Only the CPU engine makes it.
    RandAugment {
        /// The changes of each image.
        changes: Vec<Vec<Change>>,
        /// Color of areas outside the image: red, green and blue from 0 to 255.
        fill: [f32; 3],
    },
    /// [`Op::Normalize`], which draws nothing.
    Normalize {
        /// Mean of red, green and blue.
        mean: [f32; 3],
        /// Standard deviation of red, green and blue.
        std: [f32; 3],
    },
}

/// One change of a color jitter, with the number drawn for each image.
#[derive(Clone, Debug, PartialEq)]
pub enum Adjustment {
    /// Factors of [`ops::brightness`].
    Brightness(Vec<f32>),
    /// Factors of [`ops::contrast`].
    Contrast(Vec<f32>),
    /// Factors of [`ops::saturation`].
    Saturation(Vec<f32>),
    /// Turns of [`ops::hue`].
    Hue(Vec<f32>),
}

impl Draws {
    /// Draws for images of these widths and heights. The specification has to pass
    /// [`ViewSpec::validate`].
    pub fn new(spec: &ViewSpec, sizes: &[(u32, u32)], rng: &mut Stream) -> Self {
        let ops = spec.ops.iter().map(|op| DrawnOp::draw(op, sizes, rng)).collect();
        Draws { size: spec.size() as usize, ops }
    }

    /// Side of the views, in pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The operations, in order.
    pub fn ops(&self) -> &[DrawnOp] {
        &self.ops
    }

    /// Replaces the regions of a random crop, if the view has one. A loader that decodes only a
    /// region of each image draws the regions from a stream for each image instead.
    pub fn set_regions(&mut self, new: Vec<Region>) {
        if let Some(DrawnOp::RandomResizedCrop { regions, .. }) = self.ops.first_mut() {
            *regions = new;
        }
    }
}

impl DrawnOp {
    fn draw(op: &Op, sizes: &[(u32, u32)], rng: &mut Stream) -> Self {
        let batch = sizes.len();
        match *op {
            Op::RandomResizedCrop { scale, ratio, interpolation, .. } => {
                let region = |&(w, h): &(u32, u32)| ops::random_region(w, h, scale, ratio, rng);
                let regions = sizes.iter().map(region).collect();
                DrawnOp::RandomResizedCrop { regions, interpolation }
            }
            Op::CenterCrop { resize, interpolation, .. } => {
                DrawnOp::CenterCrop { resize, interpolation }
            }
            Op::HorizontalFlip { p } => DrawnOp::HorizontalFlip { applied: flags(p, batch, rng) },
            Op::ColorJitter { p, brightness, contrast, saturation, hue } => {
                let applied = flags(p, batch, rng);
                let strengths = [brightness, contrast, saturation];
                let adjustments = Adjustment::draw(strengths, hue, batch, rng);
                DrawnOp::ColorJitter { applied, adjustments }
            }
            Op::Grayscale { p } => DrawnOp::Grayscale { applied: flags(p, batch, rng) },
            Op::GaussianBlur { p, sigma, kernel } => {
                let applied = flags(p, batch, rng);
                let sigma = (0..batch).map(|_| ops::uniform(sigma, rng)).collect();
                DrawnOp::GaussianBlur { applied, sigma, kernel }
            }
            Op::Solarize { p, threshold } => {
                DrawnOp::Solarize { applied: flags(p, batch, rng), threshold }
            }
            Op::RandAugment(ref rand_augment) => {
                let changes = (0..batch).map(|_| rand_augment.draw(rng)).collect();
                DrawnOp::RandAugment { changes, fill: rand_augment.fill }
            }
            Op::Normalize { mean, std } => DrawnOp::Normalize { mean, std },
        }
    }
}

impl Adjustment {
    /// The four changes of a jitter of these strengths, in a random order.
    fn draw(strengths: [f64; 3], hue: f64, batch: usize, rng: &mut Stream) -> [Self; 4] {
        let [brightness, contrast, saturation] = strengths
            .map(|strength| uniform([(1.0 - strength).max(0.0), 1.0 + strength], batch, rng));
        let mut adjustments = [
            Adjustment::Brightness(brightness),
            Adjustment::Contrast(contrast),
            Adjustment::Saturation(saturation),
            Adjustment::Hue(uniform([-hue, hue], batch, rng)),
        ];
        adjustments.shuffle(rng);
        adjustments
    }
}

/// For each image, whether an operation of probability `p` is applied.
fn flags(p: f64, batch: usize, rng: &mut Stream) -> Vec<bool> {
    (0..batch).map(|_| rng.random::<f64>() < p).collect()
}

/// A number between the two for each image.
fn uniform(range: [f64; 2], batch: usize, rng: &mut Stream) -> Vec<f32> {
    (0..batch).map(|_| ops::uniform(range, rng) as f32).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::mem::discriminant;

    use portolan_random::{Purpose, stream};

    use super::*;

    #[test]
    fn a_jitter_draws_within_its_strengths_in_every_order() {
        let mut rng = stream(0, Purpose::View, &[]);
        let mut orders = HashSet::new();
        for _ in 0..1000 {
            let drawn = Adjustment::draw([0.4, 0.2, 1.5], 0.1, 1, &mut rng);
            orders.insert(drawn.each_ref().map(discriminant));
            for adjustment in drawn {
                let within = match &adjustment {
                    Adjustment::Brightness(factor) => (0.6..=1.4).contains(&factor[0]),
                    Adjustment::Contrast(factor) => (0.8..=1.2).contains(&factor[0]),
                    Adjustment::Saturation(factor) => (0.0..=2.5).contains(&factor[0]),
                    Adjustment::Hue(turns) => (-0.1..=0.1).contains(&turns[0]),
                };
                assert!(within, "{adjustment:?}");
            }
        }
        assert_eq!(orders.len(), 24);
    }

    #[test]
    fn a_jitter_never_changes_between_versions() {
        // Frozen on the first day: a change here changes every result anyone has recorded.
        let mut rng = stream(0, Purpose::View, &[]);
        let recorded = [
            Adjustment::Hue(vec![0.020887487]),
            Adjustment::Brightness(vec![1.1234602]),
            Adjustment::Contrast(vec![0.6992209]),
            Adjustment::Saturation(vec![0.99849224]),
        ];
        assert_eq!(Adjustment::draw([0.4; 3], 0.1, 1, &mut rng), recorded);
    }

    #[test]
    fn every_operation_draws_the_same_numbers_whether_applied_or_not() {
        let left_over = |p| {
            let mut rng = stream(5, Purpose::View, &[0, 1, 0]);
            for op in [
                Op::HorizontalFlip { p },
                Op::ColorJitter { p, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
                Op::Grayscale { p },
                Op::GaussianBlur { p, sigma: [0.1, 2.0], kernel: 5 },
                Op::Solarize { p, threshold: 128 },
                Op::RandAugment(ops::RandAugment { p, ..ops::RandAugment::timm() }),
            ] {
                DrawnOp::draw(&op, &[(32, 32)], &mut rng);
            }
            rng.random::<u64>()
        };
        assert_eq!(left_over(0.0), left_over(1.0));
    }
}
