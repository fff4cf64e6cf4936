//! An exact Gaussian blur, one direction after the other, and sharpening.

use multiversion::multiversion;
use std::cell::RefCell;

/// Blurs planes `width` pixels wide by a Gaussian of standard deviation `sigma` pixels. The
/// Gaussian is cut off beyond `kernel` pixels (odd) and sums to 1. The image is reflected at its
/// borders without repeating the outermost pixels, as in torchvision.
pub fn gaussian_blur(planes: &mut [f32], width: usize, sigma: f64, kernel: u32) {
    thread_local! {
        static BUFFERS: RefCell<(Vec<f32>, Vec<f32>)> = RefCell::default();
    }
    let taps = half_kernel(sigma, kernel);
    let (radius, height) = (taps.len() - 1, planes.len() / 3 / width);
    BUFFERS.with_borrow_mut(|(row, blurred)| {
        blurred.resize((height + 2 * radius) * width, 0.0);
        for plane in planes.chunks_exact_mut(height * width) {
            blur_rows(plane, width, &taps, row, &mut blurred[radius * width..]);
            for i in 1..=radius as isize {
                for y in [-i, height as isize - 1 + i] {
                    let (from, to) = (reflect(y, height) + radius, (y + radius as isize) as usize);
                    blurred.copy_within(from * width..(from + 1) * width, to * width);
                }
            }
            blur_columns(blurred, width, &taps, plane);
        }
    });
}

/// Moves every value of planes `width` pixels wide away from the mean of its neighborhood (`factor`
/// above 1) or towards it (below 1), as `PIL.ImageEnhance.Sharpness`. It is the mean of 3 × 3
/// pixels, of which the middle counts five times. The outermost pixels stay as they are.
pub fn sharpness(planes: &mut [f32], width: usize, factor: f32) {
    let height = planes.len() / 3 / width;
    for plane in planes.chunks_exact_mut(height * width) {
        let source = plane.to_vec();
        for y in 1..height.saturating_sub(1) {
            for x in 1..width.saturating_sub(1) {
                let at = y * width + x;
                let row = |from: usize| source[from - 1] + source[from] + source[from + 1];
                let sum = row(at - width) + row(at) + row(at + width) + 4.0 * source[at];
                let smooth = sum / 13.0;
                plane[at] = (smooth + factor * (source[at] - smooth)).clamp(0.0, 255.0);
            }
        }
    }
}

/// The Gaussian from its middle outwards. Weights too small to change a pixel by 0.02 levels are
/// left out, which halves the work at usual deviations.
fn half_kernel(sigma: f64, kernel: u32) -> Vec<f32> {
    let radius = (kernel / 2).min((4.5 * sigma).ceil() as u32);
    let weights: Vec<f64> =
        (0..=radius).map(|i| (-0.5 * (f64::from(i) / sigma).powi(2)).exp()).collect();
    let total = 2.0 * weights.iter().sum::<f64>() - weights[0];
    weights.iter().map(|weight| (weight / total) as f32).collect()
}

/// Blurs along the rows of `from`; `padded` is a buffer for one row with its reflections.
#[multiversion(targets("x86_64+avx512bw+avx512vl", "x86_64+avx2"))]
fn blur_rows(from: &[f32], width: usize, taps: &[f32], padded: &mut Vec<f32>, to: &mut [f32]) {
    let radius = taps.len() - 1;
    for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(width)) {
        padded.resize(width + 2 * radius, 0.0);
        padded[radius..][..width].copy_from_slice(from);
        for i in 1..=radius {
            padded[radius - i] = from[reflect(-(i as isize), width)];
            padded[radius + width - 1 + i] = from[reflect((width - 1 + i) as isize, width)];
        }
        weigh(taps, padded, radius, 1, to);
    }
}

/// Blurs along the columns of `from`, which has its reflections above and below.
#[multiversion(targets("x86_64+avx512bw+avx512vl", "x86_64+avx2"))]
fn blur_columns(from: &[f32], width: usize, taps: &[f32], to: &mut [f32]) {
    let radius = taps.len() - 1;
    for (y, to) in (radius..).zip(to.chunks_exact_mut(width)) {
        weigh(taps, from, y * width, width, to);
    }
}

/// The weighted sums of the pixels from `at` on and of their neighbors, which are `step` apart. The
/// sums of one chunk stay in registers over all taps.
#[inline(always)]
fn weigh(taps: &[f32], from: &[f32], at: usize, step: usize, to: &mut [f32]) {
    const AT_ONCE: usize = 32;
    let (chunks, rest) = to.as_chunks_mut::<AT_ONCE>();
    let rest_at = at + AT_ONCE * chunks.len();
    for (n, to) in chunks.iter_mut().enumerate() {
        let at = at + AT_ONCE * n;
        let mut sums = [0.0; AT_ONCE];
        for (sum, value) in sums.iter_mut().zip(&from[at..at + AT_ONCE]) {
            *sum = taps[0] * value;
        }
        for (i, tap) in taps.iter().enumerate().skip(1) {
            let before = &from[at - i * step..][..AT_ONCE];
            let after = &from[at + i * step..][..AT_ONCE];
            for ((sum, before), after) in sums.iter_mut().zip(before).zip(after) {
                *sum += tap * (before + after);
            }
        }
        to.copy_from_slice(&sums);
    }
    for (x, to) in rest.iter_mut().enumerate() {
        let at = rest_at + x;
        *to = taps[0] * from[at];
        for (i, tap) in taps.iter().enumerate().skip(1) {
            *to += tap * (from[at - i * step] + from[at + i * step]);
        }
    }
}

/// The index within 0..`len` that an index beyond a border is reflected to, however often.
fn reflect(index: isize, len: usize) -> usize {
    if len == 1 {
        return 0;
    }
    let period = 2 * (len - 1);
    let index = index.rem_euclid(period as isize) as usize;
    index.min(period - index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_becomes_the_kernel_in_both_directions() {
        let (width, height) = (9, 7);
        let mut planes = vec![0.0; 3 * width * height];
        planes[3 * width + 4] = 255.0; // row 3, column 4 of red
        gaussian_blur(&mut planes, width, 0.8, 5);
        let weight = |d: f64| (-0.5 * (d / 0.8).powi(2)).exp();
        let total = (-2..=2).map(|d| weight(f64::from(d))).sum::<f64>();
        for (i, value) in planes[..width * height].iter().enumerate() {
            let (dx, dy) = ((i % width) as f64 - 4.0, (i / width) as f64 - 3.0);
            let inside = dx.abs() <= 2.0 && dy.abs() <= 2.0;
            let expected =
                if inside { 255.0 * weight(dx) * weight(dy) / total.powi(2) } else { 0.0 };
            assert!(
                (f64::from(*value) - expected).abs() < 1e-3,
                "{dx}, {dy}: {value}, expected {expected}"
            );
        }
        assert!(planes[width * height..].iter().all(|&value| value == 0.0));
    }

    #[test]
    fn borders_reflect_even_where_the_kernel_is_wider_than_the_image() {
        assert_eq!(
            [-3, -2, -1, 0, 1, 2, 3, 4, 5].map(|i| reflect(i, 3)),
            [1, 2, 1, 0, 1, 2, 1, 0, 1]
        );
        let mut even = vec![42.0; 3 * 2];
        gaussian_blur(&mut even, 1, 2.0, 23);
        assert!(even.iter().all(|value| (value - 42.0).abs() < 1e-3));
    }
}
