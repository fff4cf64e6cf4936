//! Color operations on planes (`[3, height, width]`, levels 0 to 255), by torchvision's formulas.
//!
//! All but contrast change each pixel by itself and are written as a function of one pixel. The
//! loops over the planes have no branches, so the compiler vectorizes them, once for each set of
//! instructions. The program chooses among them at run time. All give the same bits, since none
//! fuses or reorders a sum.

use multiversion::multiversion;

use super::split;

/// Multiplies every value by `factor`.
#[multiversion(targets("x86_64+avx512bw+avx512vl", "x86_64+avx2"))]
pub fn brightness(planes: &mut [f32], factor: f32) {
    planes.iter_mut().for_each(|value| *value = (*value * factor).clamp(0.0, 255.0));
}

/// Moves every value away from the image's mean luminance (`factor` above 1) or towards it (below
/// 1).
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
/// Hue is cut to PIL's 256 steps and `turns` to a multiple of 1/255, as in torchvision with PIL
/// images, and so in most published runs. With continuous hue, some colors would differ from theirs
/// by ten levels.
#[multiversion(targets("x86_64+avx512bw+avx512vl", "x86_64+avx2"))]
pub fn hue(planes: &mut [f32], turns: f32) {
    if turns == 0.0 {
        return; // a jitter without hue must not cut it to steps
    }
    let shift = (turns * 255.0).trunc().rem_euclid(256.0);
    map_pixels(planes, |[r, g, b]| {
        let (most, least) = (larger(larger(r, g), b), smaller(smaller(r, g), b));
        let chroma = most - least;
        let scale = 1.0 / larger(chroma, 1e-6); // gray pixels have no hue, and any is right for them
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
        // In steps, shifted, and back in sixths. PIL's steps wrap at 256 though 255 of them are the
        // circle.
        let step = (hue * (255.0 / 6.0)).trunc() + shift;
        let hue = if step >= 256.0 { step - 256.0 } else { step } * (6.0 / 255.0);
        // Green and blue are at `most` up to a sixth from their own hue, and at `least` from two
        // sixths on. For red, the same holds in reverse from its opposite hue.
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

/// `f32::max` in one instruction, without its handling of NaN.
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

/// A sum in sixteen independent parts: faster than one running sum, and more exact.
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
    fn a_sum_that_sixteen_does_not_divide_is_whole() {
        let values: Vec<f32> = (1..=100).map(|v| v as f32).collect();
        assert_eq!(sum(&values), 5050.0);
    }
}
