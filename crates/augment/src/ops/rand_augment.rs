//! RandAugment (Cubuk et al. 2019, arXiv 1909.13719) as timm has it with `inc1` (`auto_augment.py`,
//! `_RAND_INCREASING_TRANSFORMS`): a few changes drawn from fifteen, each stronger at a higher
//! magnitude.

use portolan_random::Stream;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{
    IMAGENET_MEAN, affine, autocontrast, brightness, contrast, equalize, invert, posterize,
    saturation, sharpness, solarize, solarize_add,
};
use crate::check::{probability, within};

/// One change, with its strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// See [`autocontrast`].
    AutoContrast,
    /// See [`equalize`].
    Equalize,
    /// See [`invert`].
    Invert,
    /// Counter-clockwise around the middle, in degrees.
    Rotate(f64),
    /// See [`posterize`]; bits that are kept.
    Posterize(u32),
    /// See [`solarize`]; 256 for nothing.
    Solarize(u32),
    /// See [`solarize_add`].
    SolarizeAdd(u32),
    /// See [`saturation`].
    Color(f32),
    /// See [`contrast`].
    Contrast(f32),
    /// See [`brightness`].
    Brightness(f32),
    /// See [`sharpness`].
    Sharpness(f32),
    /// Columns for each row.
    ShearX(f64),
    /// Rows for each column.
    ShearY(f64),
    /// A share of the width.
    TranslateX(f64),
    /// A share of the height.
    TranslateY(f64),
}

/// How many kinds of change there are.
const KINDS: usize = 15;

impl Change {
    /// The change of this kind (0 to 14, in timm's order) at a `level` from 0 to 1, a tenth of
    /// timm's magnitude. `negative` reverses its direction, if it has one.
    fn new(kind: usize, level: f64, negative: bool) -> Self {
        let signed = |most: f64| if negative { -most * level } else { most * level };
        let factor = (1.0 + signed(0.9)) as f32;
        let whole = |most: f64| (most * level) as u32;
        match kind {
            0 => Change::AutoContrast,
            1 => Change::Equalize,
            2 => Change::Invert,
            3 => Change::Rotate(signed(30.0)),
            4 => Change::Posterize(4 - whole(4.0)),
            5 => Change::Solarize(256 - whole(256.0)),
            6 => Change::SolarizeAdd(whole(110.0)),
            7 => Change::Color(factor),
            8 => Change::Contrast(factor),
            9 => Change::Brightness(factor),
            10 => Change::Sharpness(factor),
            11 => Change::ShearX(signed(0.3)),
            12 => Change::ShearY(signed(0.3)),
            13 => Change::TranslateX(signed(0.45)),
            _ => Change::TranslateY(signed(0.45)),
        }
    }

    /// Makes the change to a square view `size` pixels wide. `fill` is the color of areas outside
    /// it.
    pub fn apply(self, planes: &mut [f32], size: usize, fill: [f32; 3]) {
        let side = size as f64;
        let mut moved = |matrix| affine(planes, size, matrix, fill);
        match self {
            Change::Rotate(degrees) => {
                let (sin, cos) = (-degrees.to_radians()).sin_cos();
                let middle = side / 2.0; // the fixed point
                let (x, y) = (middle * (1.0 - cos - sin), middle * (1.0 - cos + sin));
                moved([cos, sin, x, -sin, cos, y]);
            }
            Change::ShearX(factor) => moved([1.0, factor, 0.0, 0.0, 1.0, 0.0]),
            Change::ShearY(factor) => moved([1.0, 0.0, 0.0, factor, 1.0, 0.0]),
            Change::TranslateX(share) => moved([1.0, 0.0, share * side, 0.0, 1.0, 0.0]),
            Change::TranslateY(share) => moved([1.0, 0.0, 0.0, 0.0, 1.0, share * side]),
            Change::AutoContrast => autocontrast(planes),
            Change::Equalize => equalize(planes),
            Change::Invert => invert(planes),
            Change::Posterize(bits) => posterize(planes, bits),
            Change::Solarize(threshold) => {
                if let Ok(threshold) = u8::try_from(threshold) {
                    solarize(planes, threshold);
                }
            }
            Change::SolarizeAdd(add) => solarize_add(planes, add),
            Change::Color(factor) => saturation(planes, factor),
            Change::Contrast(factor) => contrast(planes, factor),
            Change::Brightness(factor) => brightness(planes, factor),
            Change::Sharpness(factor) => sharpness(planes, size, factor),
        }
    }
}

/// Which changes are drawn for an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandAugment {
    /// How many, with replacement.
    pub count: usize,
    /// Probability with which each is applied.
    pub p: f64,
    /// Mean strength, 0 to 10.
    pub magnitude: f64,
    /// Standard deviation of the strength, which is cut to 0 to 10.
    pub deviation: f64,
    /// Color of areas outside the image: red, green and blue from 0 to 255.
    pub fill: [f32; 3],
}

impl RandAugment {
    /// timm's `rand-m9-mstd0.5-inc1`, as DeiT and MAE use it: two changes, each with probability
    /// one half and strength 9 ± 0.5, filled with ImageNet's mean.
    pub fn timm() -> Self {
        let fill = [0.0; 3];
        let mut this = RandAugment { count: 2, p: 0.5, magnitude: 9.0, deviation: 0.5, fill };
        this.fill_with(IMAGENET_MEAN);
        this
    }

    /// Sets the fill color to the mean of another data set, each channel from 0 to 1.
    pub(crate) fn fill_with(&mut self, mean: [f32; 3]) {
        self.fill = mean.map(|mean| (255.0 * mean).round());
    }

    /// Checks the values. The error is a message.
    pub(crate) fn validate(&self) -> Result<(), String> {
        probability(self.p)?;
        within("magnitude", self.magnitude, 10.0)?;
        within("deviation", self.deviation, f64::MAX)?;
        self.fill.into_iter().try_for_each(|level| within("fill", f64::from(level), 255.0))
    }

    /// Draws the changes to apply. A change that is not applied draws its numbers too.
    pub fn draw(&self, rng: &mut Stream) -> Vec<Change> {
        let mut one = || {
            let kind = rng.random_range(0..KINDS);
            let applied = rng.random::<f64>() < self.p;
            let magnitude = self.magnitude + self.deviation * normal(rng);
            let change = Change::new(kind, (magnitude / 10.0).clamp(0.0, 1.0), rng.random());
            applied.then_some(change)
        };
        (0..self.count).filter_map(|_| one()).collect()
    }
}

/// A standard normal number (Box and Muller 1958).
fn normal(rng: &mut Stream) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use portolan_random::{Purpose, stream};

    use super::*;
    use crate::{ViewSpec, presets};

    #[test]
    fn a_recipe_writes_it_as_any_operation_and_misspells_nothing() {
        let spec = presets::finetuning(32).with_normalization([0.1; 3], [0.2; 3]);
        let text = toml::to_string(&spec).unwrap();
        assert!(text.contains("op = \"rand_augment\"") && text.contains("fill = [26.0"), "{text}");
        assert_eq!(toml::from_str::<ViewSpec>(&text).unwrap(), spec);
        let wrong = text.replace("magnitude", "strength");
        assert!(toml::from_str::<ViewSpec>(&wrong).unwrap_err().to_string().contains("strength"));
        let eleven = RandAugment { magnitude: 11.0, ..RandAugment::timm() };
        let error = eleven.validate().unwrap_err();
        assert!(error.contains("`magnitude` is 11.0") && error.contains("at most 10"), "{error}");
    }

    #[test]
    fn magnitudes_become_timms_arguments() {
        // LEVEL_TO_ARG of auto_augment.py at magnitude 9.
        let expected = [
            Change::AutoContrast,
            Change::Equalize,
            Change::Invert,
            Change::Rotate(-27.0),
            Change::Posterize(1), // 4 − ⌊0.9 · 4⌋
            Change::Solarize(26), // 256 − ⌊0.9 · 256⌋
            Change::SolarizeAdd(99),
            Change::Color(0.19),
            Change::Contrast(0.19),
            Change::Brightness(0.19),
            Change::Sharpness(0.19),
            Change::ShearX(-0.27),
            Change::ShearY(-0.27),
            Change::TranslateX(-0.405),
            Change::TranslateY(-0.405),
        ];
        for (kind, expected) in expected.into_iter().enumerate() {
            assert_eq!(Change::new(kind, 0.9, true), expected);
        }
        assert_eq!(Change::new(8, 0.9, false), Change::Contrast(1.81));
        let strongest = [Change::Posterize(0), Change::Solarize(0), Change::SolarizeAdd(110)];
        assert_eq!([4, 5, 6].map(|kind| Change::new(kind, 1.0, false)), strongest);
        assert_eq!(Change::new(5, 0.0, false), Change::Solarize(256));
    }

    #[test]
    fn half_of_two_changes_are_applied_at_magnitudes_around_nine() {
        let mut rng = stream(0, Purpose::View, &[]);
        let drawn: Vec<Change> =
            (0..6000).flat_map(|_| RandAugment::timm().draw(&mut rng)).collect();
        assert!((5800..6200).contains(&drawn.len()), "{} of 12,000", drawn.len());
        let turns: Vec<f64> = drawn
            .iter()
            .filter_map(|change| match change {
                Change::Rotate(degrees) => Some(degrees.abs() / 3.0),
                _ => None,
            })
            .collect();
        assert!((330..470).contains(&turns.len()), "a fifteenth: {}", turns.len());
        let mean = turns.iter().sum::<f64>() / turns.len() as f64;
        let spread = turns.iter().map(|turn| (turn - mean).powi(2)).sum::<f64>();
        let spread = (spread / turns.len() as f64).sqrt();
        assert!((mean - 9.0).abs() < 0.1 && (spread - 0.5).abs() < 0.08, "{mean} ± {spread}");
        assert!(turns.iter().all(|&turn| turn <= 10.0));
    }
}
