//! Features without a network, as baselines that pretraining has to exceed.

use image::RgbImage;
use portolan_augment::ViewSpec;
use portolan_data::Source;

use crate::error::Result;
use crate::features::Features;
use crate::images::{images, rows};

/// Bins per color channel.
const BINS: usize = 4;

/// The pixels of each image's view, normalized: `[n, 3 · size · size]`.
///
/// # Errors
/// When no image can be read, or the view is invalid.
pub fn pixels(source: &dyn Source, view: &ViewSpec) -> Result<Features> {
    let indices: Vec<usize> = (0..source.len()).collect();
    let mut read = images(source, &indices, view)?;
    read.x = read.x.flatten(1, -1);
    Features::new(source, read)
}

/// The share of an image's pixels in each of 4 × 4 × 4 colors: `[n, 64]`. It ignores their
/// positions.
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
