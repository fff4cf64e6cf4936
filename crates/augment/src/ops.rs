//! Every operation as a function of its own.
//!
//! Most work on *planes*: one image as `[3, height, width]` floats, the red, green and blue plane
//! after each other, in levels from 0 to 255 (not necessarily whole ones). Formulas are
//! torchvision's.
//!
//! ```
//! use image::{Rgb, RgbImage};
//! use portolan_augment::ops;
//!
//! let image = RgbImage::from_pixel(4, 3, Rgb([100, 20, 200]));
//! let mut planes = vec![0.0; 3 * 4 * 3];
//! ops::to_planes(&image, &mut planes);
//! ops::brightness(&mut planes, 1.5);
//! assert_eq!(ops::to_image(&planes, 4).get_pixel(2, 1), &Rgb([150, 30, 255]));
//! ```

mod blur;
mod color;
mod crop;
mod geometry;
mod levels;
mod rand_augment;

use image::RgbImage;
use multiversion::multiversion;
use portolan_random::Stream;
use rand::RngExt;

pub use blur::{gaussian_blur, sharpness};
pub use color::{brightness, contrast, grayscale, hue, saturation, solarize};
#[cfg(feature = "device")]
pub(crate) use crop::middle_span;
pub use crop::{
    Interpolation, Region, center_crop, center_crop_levels, center_crop_nearest, random_region,
    resize_lanczos, resized_crop, resized_crop_levels,
};
pub use geometry::{affine, horizontal_flip, rotate90};
pub use levels::{autocontrast, equalize, invert, posterize, solarize_add};
pub use rand_augment::{Change, RandAugment};

/// Mean of ImageNet's red, green and blue, as in torchvision's examples and models.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's red, green and blue, as in torchvision's examples and models.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Copies an image into planes of its size.
///
/// # Panics
/// If `planes` is not `[3, height, width]`.
pub fn to_planes(image: &RgbImage, planes: &mut [f32]) {
    assert_eq!(planes.len(), image.as_raw().len(), "planes have to be of the image's size");
    planes_from_pixels(image.as_raw(), planes);
}

/// The planes of an image `width` pixels wide as 8-bit RGB, rounded to the nearest level.
///
/// # Panics
/// If `planes` is not `[3, height, width]`.
pub fn to_image(planes: &[f32], width: usize) -> RgbImage {
    let pixels = planes.len() / 3;
    assert!(
        width > 0 && planes.len() == 3 * (pixels / width) * width,
        "planes are [3, height, width]"
    );
    RgbImage::from_fn(width as u32, (pixels / width) as u32, |x, y| {
        let at = y as usize * width + x as usize;
        image::Rgb([0, 1, 2].map(|channel| planes[channel * pixels + at].round() as u8))
    })
}

/// Turns levels into `(level / 255 - mean) / std`, channel by channel.
#[multiversion(targets("x86_64+avx512bw+avx512vl", "x86_64+avx2"))]
pub fn normalize(planes: &mut [f32], mean: [f32; 3], std: [f32; 3]) {
    for (channel, plane) in split(planes).into_iter().enumerate() {
        let scale = 1.0 / (255.0 * std[channel]);
        let offset = mean[channel] / std[channel];
        plane.iter_mut().for_each(|value| *value = *value * scale - offset);
    }
}

/// A number between the two, drawn uniformly.
pub(crate) fn uniform([least, greatest]: [f64; 2], rng: &mut Stream) -> f64 {
    least + (greatest - least) * rng.random::<f64>()
}

/// Splits interleaved RGB8 into planes. The channels are split while they are bytes, of which a
/// vector register holds four times as many as floats.
#[multiversion(targets("x86_64+avx512bw+avx512vl", "x86_64+avx2"))]
fn planes_from_pixels(pixels: &[u8], planes: &mut [f32]) {
    const AT_ONCE: usize = 256;
    let [red, green, blue] = split(planes);
    let mut channels = [[0u8; AT_ONCE]; 3];
    let chunks =
        red.chunks_mut(AT_ONCE).zip(green.chunks_mut(AT_ONCE)).zip(blue.chunks_mut(AT_ONCE));
    for (((red, green), blue), pixels) in chunks.zip(pixels.chunks(3 * AT_ONCE)) {
        let [r, g, b] = &mut channels;
        for (((pixel, r), g), b) in
            pixels.as_chunks().0.iter().zip(&mut *r).zip(&mut *g).zip(&mut *b)
        {
            [*r, *g, *b] = *pixel;
        }
        for (plane, levels) in [(red, r), (green, g), (blue, b)] {
            plane.iter_mut().zip(levels).for_each(|(value, level)| *value = f32::from(*level));
        }
    }
}

/// Red, green and blue of planes.
#[inline(always)]
fn split(planes: &mut [f32]) -> [&mut [f32]; 3] {
    let pixels = planes.len() / 3;
    let (red, rest) = planes.split_at_mut(pixels);
    let (green, blue) = rest.split_at_mut(pixels);
    [red, green, blue]
}
