//! The specification of a view: its operations, in order, with their parameters.

use serde::{Deserialize, Serialize};

use crate::check::{probability, range, require, side, within};
use crate::error::{Error, Result};
use crate::ops::{Interpolation, RandAugment};

/// One view: operations on an RGB8 image, in order, that end in a normalized `[3, size, size]`
/// image.
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
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewSpec {
    /// The operations: one crop first, then any others, one `Normalize` last.
    pub ops: Vec<Op>,
}

/// Views as a recipe lists them: `count` views of the same operations.
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

/// One operation of a view. `p` is always the probability that it is applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// A crop of random area, shape and place, resized to a square.
    RandomResizedCrop {
        /// Side of the view, in pixels.
        size: u32,
        /// Least and greatest area, as fractions of the image's.
        scale: [f64; 2],
        /// Least and greatest width / height, whose logarithm is drawn uniformly. Default: 3/4 to
        /// 4/3, as in torchvision.
        #[serde(default = "default_ratio")]
        ratio: [f64; 2],
        /// How pixels are resampled.
        #[serde(default)]
        interpolation: Interpolation,
    },
    /// The middle of the image: its short side is resized to `resize`, then a square of `size` is
    /// kept.
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
    /// Brightness, contrast, saturation and hue changed in a random order: the first three by
    /// factors drawn uniformly from `1 - strength` (at least 0) to `1 + strength`, hue by up to
    /// `strength` turns either way.
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
    /// Some of fifteen changes of color and geometry. Only the CPU engine makes it.
    RandAugment(RandAugment),
    /// Values scaled to 0 to 1, then `(value - mean) / std` for each channel.
    Normalize {
        /// Mean of red, green and blue.
        mean: [f32; 3],
        /// Standard deviation of red, green and blue.
        std: [f32; 3],
    },
}

pub(crate) fn default_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

impl ViewSpec {
    /// Side of the view in pixels, from its crop; 0 without a crop, which
    /// [`validate`](Self::validate) refuses.
    pub fn size(&self) -> u32 {
        self.ops.iter().find_map(Op::crop_size).unwrap_or(0)
    }

    /// The same view with another normalization, such as the data set's own.
    #[must_use]
    pub fn with_normalization(mut self, new_mean: [f32; 3], new_std: [f32; 3]) -> Self {
        for op in &mut self.ops {
            op.normalize_by(new_mean, new_std);
        }
        self
    }

    /// Mean and standard deviation of its normalization.
    pub fn normalization(&self) -> Option<([f32; 3], [f32; 3])> {
        self.ops.iter().find_map(|op| match op {
            Op::Normalize { mean, std } => Some((*mean, *std)),
            _ => None,
        })
    }

    /// Checks the order of the operations and their values.
    ///
    /// # Errors
    /// Names the first wrong operation, counted from 1, and what it has to be.
    pub fn validate(&self) -> Result<()> {
        if self.ops.is_empty() {
            return Err(Error::Empty);
        }
        for (i, op) in self.ops.iter().enumerate() {
            let (number, is_last) = (i + 1, i + 1 == self.ops.len());
            if op.crop_size().is_some() != (i == 0) {
                let message = "a view has one crop (`random_resized_crop` or `center_crop`), and it \
                               comes first";
                return Err(Error::Order { number, message });
            }
            if matches!(op, Op::Normalize { .. }) != is_last {
                let message = "a view has one `normalize`, and it comes last";
                return Err(Error::Order { number, message });
            }
            op.validate().map_err(|message| Error::Setting { number, message })?;
        }
        Ok(())
    }
}

impl Op {
    /// Replaces the mean and standard deviation of a normalization. RandAugment fills with the new
    /// mean.
    pub fn normalize_by(&mut self, new_mean: [f32; 3], new_std: [f32; 3]) {
        match self {
            Op::Normalize { mean, std } => (*mean, *std) = (new_mean, new_std),
            Op::RandAugment(changes) => changes.fill_with(new_mean),
            _ => {}
        }
    }

    /// Side of the view, if the operation is a crop.
    fn crop_size(&self) -> Option<u32> {
        match *self {
            Op::RandomResizedCrop { size, .. } | Op::CenterCrop { size, .. } => Some(size),
            _ => None,
        }
    }

    /// Checks the values. The error is a message.
    fn validate(&self) -> Result<(), String> {
        match *self {
            Op::RandomResizedCrop { size, scale, ratio, .. } => {
                side(size)?;
                range("scale", scale, 1.0)?;
                range("ratio", ratio, f64::MAX)
            }
            Op::CenterCrop { resize, size, .. } => {
                side(size)?;
                require(resize >= size, || {
                    format!("`resize` is {resize}; it has to be at least `size`, {size}")
                })
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
                require(kernel % 2 == 1, || {
                    format!("`kernel` is {kernel}; it has to be odd, so that it has a middle")
                })
            }
            Op::RandAugment(ref changes) => changes.validate(),
            Op::Normalize { mean, std } => {
                require(mean.iter().all(|m| m.is_finite()), || {
                    format!("`mean` is {mean:?}; each value has to be finite")
                })?;
                require(std.iter().all(|s| s.is_finite() && *s > 0.0), || {
                    format!("`std` is {std:?}; each value has to be above 0")
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;
