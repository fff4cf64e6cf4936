//! A photograph made small: to be looked at, and to be compared.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::thumbnail;

/// The longer side, in pixels.
const SIDE: u32 = 96;
const QUALITY: u8 = 70;
/// The side of a fingerprint, in pixels.
const FINGERPRINT: u32 = 16;

/// A JPEG of at most 96 by 96 pixels, with the fingerprint of its picture.
#[derive(Clone, Debug)]
pub struct Thumbnail {
    /// The JPEG as base64, for a `data:image/jpeg;base64,` address.
    pub jpeg: String,
    /// What the picture is compared by.
    pub fingerprint: Fingerprint,
}

/// The picture's colors on a grid of 16 by 16.
#[derive(Clone, Debug)]
pub struct Fingerprint(Vec<u8>);

impl Thumbnail {
    /// Makes the picture small; a smaller one keeps its size.
    ///
    /// # Errors
    /// When the picture has no pixels.
    pub fn of(picture: &RgbImage) -> Result<Self> {
        let (width, height) = picture.dimensions();
        let longest = width.max(height).max(SIDE);
        let shrunk = |n: u32| (u64::from(n) * u64::from(SIDE) / u64::from(longest)).max(1) as u32;
        let small = thumbnail(picture, shrunk(width), shrunk(height));
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, QUALITY)
            .encode_image(&small)
            .context("cannot make a thumbnail")?;
        let grid = thumbnail(&small, FINGERPRINT, FINGERPRINT);
        Ok(Self { jpeg: STANDARD.encode(bytes), fingerprint: Fingerprint(grid.into_raw()) })
    }
}

impl Fingerprint {
    /// Whether these are the same picture but for scaling and compression: the colors of the two grids differ by less
    /// than a seventh of the contrast (their standard deviation) on average, or by two of 255 levels where there is less contrast.
    pub fn is_nearly(&self, other: &Self) -> bool {
        let differences = self.0.iter().zip(&other.0).map(|(a, b)| f32::from(a.abs_diff(*b)));
        let difference = differences.sum::<f32>() / self.0.len() as f32;
        difference < (self.contrast().min(other.contrast()) / 7.0).max(2.0)
    }

    fn contrast(&self) -> f32 {
        let n = self.0.len() as f32;
        let mean = self.0.iter().map(|&x| f32::from(x)).sum::<f32>() / n;
        let variance = self.0.iter().map(|&x| (f32::from(x) - mean).powi(2)).sum::<f32>() / n;
        variance.sqrt()
    }
}
