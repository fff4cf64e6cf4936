//! Thumbnails of images, and fingerprints to compare them by.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::thumbnail;

use crate::error::{Error, Result};

/// The longer side, in pixels.
const SIDE: u32 = 96;
const QUALITY: u8 = 70;
/// The side of a fingerprint, in pixels.
const FINGERPRINT: u32 = 16;

/// A JPEG of at most 96 by 96 pixels, with the image's fingerprint.
#[derive(Clone, Debug)]
pub struct Thumbnail {
    /// The JPEG as base64, for a `data:image/jpeg;base64,` URI.
    pub jpeg: String,
    /// The fingerprint by which images are compared.
    pub fingerprint: Fingerprint,
}

/// An image's colors on a grid of 16 by 16.
#[derive(Clone, Debug)]
pub struct Fingerprint(Vec<u8>);

impl Thumbnail {
    /// Shrinks the image; a smaller one keeps its size.
    ///
    /// # Errors
    /// When the image has no pixels.
    pub fn of(image: &RgbImage) -> Result<Self> {
        let (width, height) = image.dimensions();
        let longest = width.max(height).max(SIDE);
        let shrunk = |n: u32| (u64::from(n) * u64::from(SIDE) / u64::from(longest)).max(1) as u32;
        let small = thumbnail(image, shrunk(width), shrunk(height));
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, QUALITY)
            .encode_image(&small)
            .map_err(Error::Thumbnail)?;
        let grid = thumbnail(&small, FINGERPRINT, FINGERPRINT);
        Ok(Self { jpeg: STANDARD.encode(bytes), fingerprint: Fingerprint(grid.into_raw()) })
    }
}

impl Fingerprint {
    /// Whether the images are the same up to scaling and compression: their colors differ on
    /// average by less than a seventh of the contrast (the standard deviation), or by two of 255
    /// levels if the contrast is low.
    #[must_use]
    pub fn is_nearly_equal(&self, other: &Self) -> bool {
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
