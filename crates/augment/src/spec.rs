//! What a view is: its operations, in order, with everything that they depend on.

use std::fmt::Debug;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::ops::RandAugment;

/// One view: operations on an RGB8 image, in order, that end in a normalized `[3, size, size]` image.
///
/// In a recipe:
///
/// ```
/// use portolan_augment::ViewSpec;
///
/// let spec: ViewSpec = toml::from_str(
///     r#"
///     ops = [
///         { op = "random_resized_crop", size = 32, scale = [0.2, 1.0] },
///         { op = "horizontal_flip", p = 0.5 },
///         { op = "normalize", mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] },
///     ]
///     "#,
/// )?;
/// spec.validate()?;
/// assert_eq!(spec.size(), 32);
/// # anyhow::Ok(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewSpec {
    /// The operations: one crop first, then any others, one `Normalize` last.
    pub ops: Vec<Op>,
}

/// Views as a recipe lists them: `count` of them, drawn by the same operations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Views {
    /// How many.
    pub count: usize,
    /// The operations of each.
    pub ops: Vec<Op>,
}

impl Views {
    /// Every view by itself, in order.
    pub fn each(list: &[Views]) -> Vec<ViewSpec> {
        let repeat = |views: &Views| vec![ViewSpec { ops: views.ops.clone() }; views.count];
        list.iter().flat_map(repeat).collect()
    }
}

/// One operation of a view. `p` is always the probability with which it is applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// A crop of random area, shape and place, resized to a square.
    RandomResizedCrop {
        /// Side of the view, in pixels.
        size: u32,
        /// Least and greatest area, as fractions of the image's.
        scale: [f64; 2],
        /// Least and greatest width / height, drawn uniformly in its logarithm (torchvision's default: 3/4 to 4/3).
        #[serde(default = "default_ratio")]
        ratio: [f64; 2],
        /// How pixels are resampled.
        #[serde(default)]
        interpolation: Interpolation,
    },
    /// The middle of the image: its short side is resized to `resize`, then a square of `size` is kept.
    CenterCrop {
        /// Length of the short side after resizing, in pixels.
        resize: u32,
        /// Side of the view, in pixels; at most `resize`.
        size: u32,
        /// How pixels are resampled.
        #[serde(default)]
        interpolation: Interpolation,
    },
    /// Left and right exchanged.
    HorizontalFlip {
        /// Probability.
        p: f64,
    },
    /// Brightness, contrast, saturation and hue changed in a random order. The first three by factors drawn
    /// uniformly from `1 - strength` (at least 0) to `1 + strength`, hue by up to `strength` turns either way.
    ColorJitter {
        /// Probability.
        p: f64,
        /// Strength, at least 0.
        brightness: f64,
        /// Strength, at least 0.
        contrast: f64,
        /// Strength, at least 0.
        saturation: f64,
        /// Strength, 0 to 0.5 turns of the color circle.
        hue: f64,
    },
    /// Colors replaced by their luminance.
    Grayscale {
        /// Probability.
        p: f64,
    },
    /// A Gaussian blur, reflected at the borders.
    GaussianBlur {
        /// Probability.
        p: f64,
        /// Least and greatest standard deviation, in pixels.
        sigma: [f64; 2],
        /// Width of the kernel in pixels, odd: the Gaussian is cut off beyond it.
        kernel: u32,
    },
    /// Values of `threshold` and above inverted.
    Solarize {
        /// Probability.
        p: f64,
        /// First level of 0 to 255 that is inverted (128 in BYOL and DINO).
        threshold: u8,
    },
    /// Some of fifteen changes of color and geometry. Made by the CPU alone.
    RandAugment(RandAugment),
    /// Values scaled to 0 to 1, then `(value - mean) / std` for each channel.
    Normalize {
        /// Mean of red, green and blue.
        mean: [f32; 3],
        /// Standard deviation of red, green and blue.
        std: [f32; 3],
    },
}

/// How pixels are resampled; both widen their kernel when the image shrinks, which PIL and torchvision
/// call antialiasing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Triangle kernel; torchvision's default.
    #[default]
    Bilinear,
    /// Catmull-Rom kernel (a = -0.5), as PIL's and torchvision's bicubic.
    Bicubic,
}

pub(crate) fn default_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

impl ViewSpec {
    /// Side of the view in pixels, as its crop says; 0 without a crop, which [`validate`](Self::validate) refuses.
    pub fn size(&self) -> u32 {
        self.ops.iter().find_map(Op::crop_size).unwrap_or(0)
    }

    /// The same view with another normalization, such as the data set's own.
    pub fn with_normalization(mut self, new_mean: [f32; 3], new_std: [f32; 3]) -> Self {
        for op in &mut self.ops {
            op.normalize_by(new_mean, new_std);
        }
        self
    }

    /// Mean and standard deviation that it normalizes by.
    pub fn normalization(&self) -> Option<([f32; 3], [f32; 3])> {
        self.ops.iter().find_map(|op| match op {
            Op::Normalize { mean, std } => Some((*mean, *std)),
            _ => None,
        })
    }

    /// Checks that the operations make a view and that each one's values are possible.
    ///
    /// # Errors
    /// Names the first operation that is wrong, counted from 1, and what it has to be.
    pub fn validate(&self) -> Result<()> {
        let last = self.ops.len().saturating_sub(1);
        ensure!(
            !self.ops.is_empty(),
            "a view has no operations: it needs a crop first and `normalize` last"
        );
        for (i, op) in self.ops.iter().enumerate() {
            let place = format!("operation {} of the view", i + 1);
            ensure!(
                op.crop_size().is_some() == (i == 0),
                "{place}: a view has one crop (`random_resized_crop` or `center_crop`), and it comes first"
            );
            ensure!(
                matches!(op, Op::Normalize { .. }) == (i == last),
                "{place}: a view has one `normalize`, and it comes last"
            );
            op.validate().context(place)?;
        }
        Ok(())
    }
}

impl Op {
    /// Puts another normalization in the place of this one, if it is one. RandAugment fills with the new mean.
    pub fn normalize_by(&mut self, new_mean: [f32; 3], new_std: [f32; 3]) {
        match self {
            Op::Normalize { mean, std } => (*mean, *std) = (new_mean, new_std),
            Op::RandAugment(changes) => changes.fill_with(new_mean),
            _ => {}
        }
    }

    /// Side of the view, where the operation is a crop.
    fn crop_size(&self) -> Option<u32> {
        match *self {
            Op::RandomResizedCrop { size, .. } | Op::CenterCrop { size, .. } => Some(size),
            _ => None,
        }
    }

    fn validate(&self) -> Result<()> {
        match *self {
            Op::RandomResizedCrop { size, scale, ratio, .. } => {
                ensure!(size > 0, "`size` is 0; it is the side of the view in pixels");
                range("scale", scale, 1.0)?;
                range("ratio", ratio, f64::MAX)
            }
            Op::CenterCrop { resize, size, .. } => {
                ensure!(size > 0, "`size` is 0; it is the side of the view in pixels");
                ensure!(
                    resize >= size,
                    "`resize` is {resize}; it has to be at least `size`, {size}"
                );
                Ok(())
            }
            Op::HorizontalFlip { p } | Op::Grayscale { p } | Op::Solarize { p, .. } => {
                probability(p)
            }
            Op::ColorJitter { p, brightness, contrast, saturation, hue } => {
                probability(p)?;
                within("brightness", brightness, f64::MAX)?;
                within("contrast", contrast, f64::MAX)?;
                within("saturation", saturation, f64::MAX)?;
                within("hue", hue, 0.5)
            }
            Op::GaussianBlur { p, sigma, kernel } => {
                probability(p)?;
                range("sigma", sigma, f64::MAX)?;
                ensure!(
                    kernel % 2 == 1,
                    "`kernel` is {kernel}; it has to be odd, so that it has a middle"
                );
                Ok(())
            }
            Op::RandAugment(ref changes) => changes.validate(),
            Op::Normalize { mean, std } => {
                ensure!(
                    mean.iter().all(|m| m.is_finite()),
                    "`mean` is {mean:?}; each value has to be finite"
                );
                ensure!(
                    std.iter().all(|s| s.is_finite() && *s > 0.0),
                    "`std` is {std:?}; each value has to be above 0"
                );
                Ok(())
            }
        }
    }
}

pub(crate) fn probability(p: f64) -> Result<()> {
    within("p", p, 1.0)
}

/// Checks 0 ≤ `value` ≤ `most`, which is unlimited where it is `f64::MAX`.
pub(crate) fn within(name: &str, value: f64, most: f64) -> Result<()> {
    if (0.0..=most).contains(&value) {
        return Ok(());
    }
    refuse(name, value, "at least 0", most)
}

/// Checks 0 < least ≤ greatest ≤ `most`, which is unlimited where it is `f64::MAX`.
fn range(name: &str, [least, greatest]: [f64; 2], most: f64) -> Result<()> {
    if 0.0 < least && least <= greatest && greatest <= most {
        return Ok(());
    }
    refuse(name, [least, greatest], "[least, greatest] above 0", most)
}

fn refuse(name: &str, value: impl Debug, needed: &str, most: f64) -> Result<()> {
    let limit = if most == f64::MAX { String::new() } else { format!(" and at most {most}") };
    bail!("`{name}` is {value:?}; it has to be {needed}{limit}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::presets;

    fn complaint(change: impl Fn(&mut Vec<Op>)) -> String {
        let mut spec = presets::simclr(32);
        change(&mut spec.ops);
        format!("{:#}", spec.validate().unwrap_err())
    }

    #[test]
    fn refuses_a_wrong_order_and_says_which_operation() {
        let swapped = complaint(|ops| ops.swap(0, 1));
        assert!(
            swapped.starts_with("operation 1") && swapped.contains("it comes first"),
            "{swapped}"
        );
        let second_crop = complaint(|ops| ops.insert(2, ops[0].clone()));
        assert!(
            second_crop.starts_with("operation 3") && second_crop.contains("one crop"),
            "{second_crop}"
        );
        let early = complaint(|ops| ops.insert(1, ops[ops.len() - 1].clone()));
        assert!(early.starts_with("operation 2") && early.contains("one `normalize`"), "{early}");
        let missing = complaint(|ops| ops.truncate(3));
        assert!(missing.starts_with("operation 3") && missing.contains("comes last"), "{missing}");
        assert!(complaint(Vec::clear).contains("no operations"));
    }

    #[test]
    fn refuses_impossible_values_and_names_them() {
        let crop = |size, scale| Op::RandomResizedCrop {
            size,
            scale,
            ratio: default_ratio(),
            interpolation: Interpolation::Bilinear,
        };
        let jitter = |brightness, hue| Op::ColorJitter {
            p: 0.8,
            brightness,
            contrast: 0.4,
            saturation: 0.4,
            hue,
        };
        for (place, op, needed) in [
            (0, crop(0, [0.2, 1.0]), "`size` is 0"),
            (
                0,
                crop(32, [0.0, 1.0]),
                "`scale` is [0.0, 1.0]; it has to be [least, greatest] above 0 and at most 1",
            ),
            (0, crop(32, [0.9, 0.2]), "`scale` is [0.9, 0.2]"),
            (0, crop(32, [0.2, 1.1]), "at most 1"),
            (
                0,
                Op::CenterCrop { resize: 30, size: 32, interpolation: Interpolation::Bilinear },
                "`resize` is 30",
            ),
            (1, Op::HorizontalFlip { p: 1.5 }, "`p` is 1.5; it has to be at least 0 and at most 1"),
            (1, Op::Grayscale { p: f64::NAN }, "`p` is NaN"),
            (1, jitter(-0.1, 0.1), "`brightness` is -0.1; it has to be at least 0"),
            (1, jitter(0.4, 0.6), "`hue` is 0.6"),
            (
                1,
                Op::GaussianBlur { p: 0.5, sigma: [0.1, 2.0], kernel: 22 },
                "`kernel` is 22; it has to be odd",
            ),
            (
                1,
                Op::GaussianBlur { p: 0.5, sigma: [0.0, 2.0], kernel: 23 },
                "`sigma` is [0.0, 2.0]",
            ),
            (5, Op::Normalize { mean: [0.5; 3], std: [0.2, 0.0, 0.2] }, "`std` is [0.2, 0.0, 0.2]"),
        ] {
            let said = complaint(|ops| ops[place] = op.clone());
            let expected = format!("operation {} of the view: ", place + 1);
            assert!(said.starts_with(&expected) && said.contains(needed), "{said}");
        }
    }

    #[test]
    fn toml_keeps_every_value_and_refuses_unknown_keys() {
        for spec in [presets::moco_v1(224), presets::simclr(224), presets::evaluation(256, 224)] {
            assert_eq!(toml::from_str::<ViewSpec>(&toml::to_string(&spec).unwrap()).unwrap(), spec);
        }
        let unknown = toml::from_str::<ViewSpec>(r#"ops = [{ op = "grayscale", p = 0.2, q = 1 }]"#)
            .unwrap_err();
        assert!(unknown.to_string().contains("unknown field `q`"), "{unknown}");
        let unknown =
            toml::from_str::<ViewSpec>(r#"ops = [{ op = "greyscale", p = 0.2 }]"#).unwrap_err();
        assert!(unknown.to_string().contains("unknown variant `greyscale`"), "{unknown}");
    }

    #[test]
    fn normalization_is_replaced() {
        let spec = presets::simclr(32).with_normalization([0.1; 3], [0.2; 3]);
        assert_eq!(spec.ops.last(), Some(&Op::Normalize { mean: [0.1; 3], std: [0.2; 3] }));
        assert_eq!(spec.ops.len(), presets::simclr(32).ops.len());
    }
}
