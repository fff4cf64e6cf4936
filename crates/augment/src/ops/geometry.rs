//! Flips and quarter turns: pixels move, none changes.

use image::{RgbImage, imageops};

/// Exchanges left and right of planes `width` pixels wide.
pub fn horizontal_flip(planes: &mut [f32], width: usize) {
    planes.chunks_exact_mut(width).for_each(<[f32]>::reverse);
}

/// The image after quarter turns counter-clockwise, as `torch.rot90` counts them; any number of them.
pub fn rotate90(image: &RgbImage, quarter_turns_ccw: u32) -> RgbImage {
    match quarter_turns_ccw % 4 {
        0 => image.clone(),
        1 => imageops::rotate270(image), // `imageops` turns clockwise
        2 => imageops::rotate180(image),
        _ => imageops::rotate90(image),
    }
}
