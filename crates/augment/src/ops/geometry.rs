//! Flips, turns and shears.

use image::{RgbImage, imageops};

use super::split;

/// Exchanges left and right of planes `width` pixels wide.
pub fn horizontal_flip(planes: &mut [f32], width: usize) {
    planes.chunks_exact_mut(width).for_each(<[f32]>::reverse);
}

/// The image after any number of quarter turns counter-clockwise, as in `torch.rot90`.
pub fn rotate90(image: &RgbImage, quarter_turns_ccw: u32) -> RgbImage {
    match quarter_turns_ccw % 4 {
        0 => image.clone(),
        1 => imageops::rotate270(image), // `imageops` turns clockwise
        2 => imageops::rotate180(image),
        _ => imageops::rotate90(image),
    }
}

/// Moves the pixels of planes `width` pixels wide. The new value at (x, y) is the old one at (a·x +
/// b·y + c, d·x + e·y + f) for a matrix `[a, b, c, d, e, f]`, in pixels from the left and upper
/// border, or `fill` (a level for each channel) outside the image. Interpolated by the cubic kernel
/// with a = -1, as `PIL.Image.transform` with `BICUBIC`.
pub fn affine(planes: &mut [f32], width: usize, matrix: [f64; 6], fill: [f32; 3]) {
    let [a, b, c, d, e, f] = matrix;
    for (plane, fill) in split(planes).into_iter().zip(fill) {
        let source = plane.to_vec();
        for (i, value) in plane.iter_mut().enumerate() {
            let (x, y) = ((i % width) as f64 + 0.5, (i / width) as f64 + 0.5);
            let place = (a * x + b * y + c, d * x + e * y + f);
            *value = cubic(&source, width, place).unwrap_or(fill);
        }
    }
}

/// The value at a place in pixels from the borders; `None` outside. The kernel repeats the border
/// pixels.
fn cubic(plane: &[f32], width: usize, (x, y): (f64, f64)) -> Option<f32> {
    let height = plane.len() / width;
    if !(0.0..width as f64).contains(&x) || !(0.0..height as f64).contains(&y) {
        return None;
    }
    let (x, y) = (x - 0.5, y - 0.5);
    let at = |place: i64, size: usize| place.clamp(0, size as i64 - 1) as usize;
    let around =
        |place: f64, size: usize| [-1, 0, 1, 2].map(|i| at(place.floor() as i64 + i, size));
    let columns = around(x, width);
    let rows = around(y, height).map(|row| {
        between(columns.map(|column| f64::from(plane[row * width + column])), x - x.floor())
    });
    Some(between(rows, y - y.floor()).clamp(0.0, 255.0) as f32)
}

/// The cubic through the middle two of four values, a share of the way from the second to the
/// third.
fn between([v1, v2, v3, v4]: [f64; 4], share: f64) -> f64 {
    let quadratic = 2.0 * (v1 - v2) + v3 - v4;
    let cubic = v2 - v1 - v3 + v4;
    v2 + share * (v3 - v1 + share * (quadratic + share * cubic))
}
