//! Features that no network is needed for. What pretraining learned has to be better than these.

use crate::Features;
use crate::images::{images, rows};
use anyhow::Result;
use image::RgbImage;
use portolan_augment::ViewSpec;
use portolan_data::Source;

/// Bins of each color channel.
const BINS: usize = 4;

/// The pixels of each image's view, normalized: `[n, 3 · size · size]`.
///
/// # Errors
/// When no image can be read, or the view is not a possible one.
pub fn pixels(source: &dyn Source, view: &ViewSpec) -> Result<Features> {
    let indices: Vec<usize> = (0..source.len()).collect();
    let mut read = images(source, &indices, view)?;
    read.x = read.x.flatten(1, -1);
    Features::new(source, read)
}

/// The shares of an image's pixels that have each of 4 × 4 × 4 colors: `[n, 64]`. Nothing of it says where.
///
/// # Errors
/// When no image can be read.
pub fn color_histogram(source: &dyn Source) -> Result<Features> {
    let indices: Vec<usize> = (0..source.len()).collect();
    Features::new(source, rows(source, &indices, BINS.pow(3), |_, image, row| count(image, row)))
}

fn count(image: &RgbImage, shares: &mut [f32]) {
    let one = 1.0 / (image.width() as f32 * image.height() as f32);
    for pixel in image.pixels() {
        let [r, g, b] = pixel.0.map(|level| usize::from(level) * BINS / 256);
        shares[(r * BINS + g) * BINS + b] += one;
    }
}
