//! Color operations on planes (`[3, height, width]`, levels 0 to 255), by torchvision's formulas.
//!
//! All but contrast change each pixel by itself and are written as a function of one pixel: the loops over
//! the planes have no branches, so the compiler vectorizes them. It does so twice, for every x86-64 and for those with
//! AVX2, of which the program chooses as it runs; both give the same bits, since neither fuses or reorders a sum.

use multiversion::multiversion;
use portolan_random::Stream;
use rand::seq::SliceRandom;

use super::{split, uniform};

/// One change of a color jitter, with the factor (or turns of hue) that was drawn for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Adjustment {
    /// See [`brightness`].
    Brightness(f32),
    /// See [`contrast`].
    Contrast(f32),
    /// See [`saturation`].
    Saturation(f32),
    /// See [`hue`].
    Hue(f32),
}

impl Adjustment {
    /// Draws the four changes of a color jitter of these strengths, in the order to apply them.
    pub fn draw(
        brightness: f64,
        contrast: f64,
        saturation: f64,
        hue: f64,
        rng: &mut Stream,
    ) -> [Self; 4] {
        let mut factor =
            |strength: f64| uniform([(1.0 - strength).max(0.0), 1.0 + strength], rng) as f32;
        let mut adjustments = [
            Adjustment::Brightness(factor(brightness)),
            Adjustment::Contrast(factor(contrast)),
            Adjustment::Saturation(factor(saturation)),
            Adjustment::Hue(uniform([-hue, hue], rng) as f32),
        ];
        adjustments.shuffle(rng);
        adjustments
    }

    /// Makes the change.
    pub fn apply(self, planes: &mut [f32]) {
        match self {
            Adjustment::Brightness(factor) => brightness(planes, factor),
            Adjustment::Contrast(factor) => contrast(planes, factor),
            Adjustment::Saturation(factor) => saturation(planes, factor),
            Adjustment::Hue(turns) => hue(planes, turns),
        }
    }
}

/// Multiplies every value by `factor`.
#[multiversion(targets("x86_64+avx512bw+avx512vl", "x86_64+avx2"))]
pub fn brightness(planes: &mut [f32], factor: f32) {
    planes.iter_mut().for_each(|value| *value = (*value * factor).clamp(0.0, 255.0));
}

/// Moves every value away from the image's mean luminance (`factor` above 1) or towards it (below 1).
#[multiversion(targets("x86_64+avx512bw+avx512vl", "x86_64+avx2"))]
pub fn contrast(planes: &mut [f32], factor: f32) {
    let mean = mean_luminance(planes);
    planes.iter_mut().for_each(|value| *value = blend(*value, mean, factor));
}

/// Moves every value away from its pixel's luminance (`factor` above 1) or towards it (below 1).
#[multiversion(targets("x86_64+avx512bw+avx512vl", "x86_64+avx2"))]
pub fn saturation(planes: &mut [f32], factor: f32) {
    map_pixels(planes, |pixel| {
        let gray = luminance(pixel);
        pixel.map(|value| blend(value, gray, factor))
    });
}

/// Turns every color around the color circle by `turns` of it: 1/3 makes red green.
///
/// Hue is cut to PIL's 256 steps and `turns` to a multiple of 1/255, as torchvision does with PIL's images and so
/// in most published runs; left continuous, some colors would differ from theirs by ten levels.
#[multiversion(targets("x86_64+avx512bw+avx512vl", "x86_64+avx2"))]
pub fn hue(planes: &mut [f32], turns: f32) {
    if turns == 0.0 {
        return; // a jitter without hue leaves it whole
    }
    let shift = (turns * 255.0).trunc().rem_euclid(256.0);
    map_pixels(planes, |[r, g, b]| {
        let (most, least) = (larger(larger(r, g), b), smaller(smaller(r, g), b));
        let chroma = most - least;
        let scale = 1.0 / larger(chroma, 1e-6); // a gray pixel has no hue, and keeps any it is given at chroma 0
        // In sixths of the circle from red: -1 to 5, then 0 to 6.
        let from_red = (g - b) * scale;
        let from_green = 2.0 + (b - r) * scale;
        let from_blue = 4.0 + (r - g) * scale;
        let hue = if most == r {
            from_red
        } else if most == g {
            from_green
        } else {
            from_blue
        };
        let hue = if hue < 0.0 { hue + 6.0 } else { hue };
        // In steps, shifted, and back in sixths. PIL's steps wrap at 256 though 255 of them are the circle.
        let step = (hue * (255.0 / 6.0)).trunc() + shift;
        let hue = if step >= 256.0 { step - 256.0 } else { step } * (6.0 / 255.0);
        // Green and blue are at `most` up to a sixth away from themselves and at `least` from two sixths on; red is so
        // from its opposite, and the other way around.
        [
            least + chroma * beyond_a_sixth(hue - 3.0),
            most - chroma * beyond_a_sixth(hue - 2.0),
            most - chroma * beyond_a_sixth(hue - 4.0),
        ]
    });
}

#[inline(always)]
fn beyond_a_sixth(distance: f32) -> f32 {
    (distance.abs() - 1.0).clamp(0.0, 1.0)
}

/// `f32::max` of numbers, in one instruction: NaN is not looked for.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Replaces every pixel by its luminance.
#[multiversion(targets("x86_64+avx512bw+avx512vl", "x86_64+avx2"))]
pub fn grayscale(planes: &mut [f32]) {
    map_pixels(planes, |pixel| [luminance(pixel); 3]);
}

/// Inverts every value of `threshold` and above.
#[multiversion(targets("x86_64+avx512bw+avx512vl", "x86_64+avx2"))]
pub fn solarize(planes: &mut [f32], threshold: u8) {
    let threshold = f32::from(threshold);
    planes
        .iter_mut()
        .for_each(|value| *value = if *value >= threshold { 255.0 - *value } else { *value });
}

/// `factor` parts of `value` and `1 - factor` parts of `other`, within the levels.
#[inline(always)]
fn blend(value: f32, other: f32, factor: f32) -> f32 {
    (factor * value + (1.0 - factor) * other).clamp(0.0, 255.0)
}

/// ITU-R 601 luma, as PIL and torchvision convert to gray.
#[inline(always)]
fn luminance([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// The luminance of the mean color, which is the mean of the luminances.
#[inline(always)]
fn mean_luminance(planes: &mut [f32]) -> f32 {
    luminance(split(planes).map(|plane| sum(plane) / plane.len() as f32))
}

/// A sum in sixteen parts: faster than one after the other, as they don't wait for each other, and more exact.
#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut parts = [0.0; 16];
    for chunk in chunks {
        parts.iter_mut().zip(chunk).for_each(|(part, value)| *part += value);
    }
    parts.iter().chain(rest).sum()
}

#[inline(always)]
fn map_pixels(planes: &mut [f32], f: impl Fn([f32; 3]) -> [f32; 3]) {
    let [red, green, blue] = split(planes);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        [*r, *g, *b] = f([*r, *g, *b]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_random::{Purpose, stream};

    #[test]
    fn hue_turns_primaries_into_each_other_and_leaves_gray() {
        let colors = |turns| {
            // Four pixels: red, green, blue, gray.
            let mut planes = [255., 0., 0., 70., 0., 255., 0., 70., 0., 0., 255., 70.];
            hue(&mut planes, turns);
            planes.map(f32::round)
        };
        assert_eq!(colors(1.0 / 3.0), [0., 0., 255., 70., 255., 0., 0., 70., 0., 255., 0., 70.]);
        // Red turned back is one of PIL's steps off, as there are 256 of them on its circle of 255.
        assert_eq!(colors(-1.0 / 3.0), [6., 255., 0., 70., 0., 0., 255., 70., 255., 0., 0., 70.]);
    }

    #[test]
    fn jitter_draws_within_its_strengths_in_every_order() {
        let mut rng = stream(0, Purpose::View, &[]);
        let mut orders = std::collections::HashSet::new();
        for _ in 0..1000 {
            let adjustments = Adjustment::draw(0.4, 0.2, 1.5, 0.1, &mut rng);
            orders.insert(adjustments.map(|a| std::mem::discriminant(&a)));
            for adjustment in adjustments {
                let within = match adjustment {
                    Adjustment::Brightness(factor) => (0.6..=1.4).contains(&factor),
                    Adjustment::Contrast(factor) => (0.8..=1.2).contains(&factor),
                    Adjustment::Saturation(factor) => (0.0..=2.5).contains(&factor),
                    Adjustment::Hue(turns) => (-0.1..=0.1).contains(&turns),
                };
                assert!(within, "{adjustment:?}");
            }
        }
        assert_eq!(orders.len(), 24);
    }

    #[test]
    fn draws_never_change_between_versions() {
        // Frozen on the first day: a change here changes every result anyone has recorded.
        let mut rng = stream(0, Purpose::View, &[]);
        let drawn = Adjustment::draw(0.4, 0.4, 0.4, 0.1, &mut rng);
        let recorded = [
            Adjustment::Hue(0.020887487),
            Adjustment::Brightness(1.1234602),
            Adjustment::Contrast(0.6992209),
            Adjustment::Saturation(0.99849224),
        ];
        assert_eq!(drawn, recorded);
    }

    #[test]
    fn a_sum_that_sixteen_does_not_divide_is_whole() {
        let values: Vec<f32> = (1..=100).map(|v| v as f32).collect();
        assert_eq!(sum(&values), 5050.0);
    }
}
