//! Cropping and resizing at once, without a copy of the cropped pixels.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use portolan_random::Stream;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

use super::{planes_from_pixels, uniform};

/// How pixels are resampled. Both kernels widen when the image shrinks, which PIL and torchvision
/// call antialiasing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Triangle kernel; torchvision's default.
    #[default]
    Bilinear,
    /// Catmull-Rom kernel (a = -0.5), as PIL's and torchvision's bicubic.
    Bicubic,
}

/// A rectangle of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Rows above it.
    pub top: u32,
    /// Columns left of it.
    pub left: u32,
    /// Its height.
    pub height: u32,
    /// Its width.
    pub width: u32,
}

/// Draws the region of a random resized crop as torchvision does. Up to ten times, it draws an area
/// (a fraction of the image's, uniform in `scale`) and a width / height (uniform in its logarithm),
/// until one fits; then it draws the position. If none fits, it returns the largest region in the
/// middle that `ratio` allows.
pub fn random_region(
    width: u32,
    height: u32,
    scale: [f64; 2],
    ratio: [f64; 2],
    rng: &mut Stream,
) -> Region {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let target = area * uniform(scale, rng);
        let aspect = uniform(ratio.map(f64::ln), rng).exp();
        let w = (target * aspect).sqrt().round() as u32;
        let h = (target / aspect).sqrt().round() as u32;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = rng.random_range(0..=height - h);
            let left = rng.random_range(0..=width - w);
            return Region { top, left, height: h, width: w };
        }
    }
    middle(width, height, ratio)
}

/// The largest region in the middle whose width / height is within `ratio`.
fn middle(width: u32, height: u32, [narrowest, widest]: [f64; 2]) -> Region {
    let aspect = f64::from(width) / f64::from(height);
    let (mut w, mut h) = (width, height);
    if aspect < narrowest {
        h = ((f64::from(width) / narrowest).round() as u32).clamp(1, height);
    } else if aspect > widest {
        w = ((f64::from(height) * widest).round() as u32).clamp(1, width);
    }
    Region { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}

/// Resizes a region of the image to a square of `size` pixels; pixels outside of the region have no
/// influence. `planes` is `[3, size, size]`.
///
/// # Panics
/// If the region is empty or not within the image.
pub fn resized_crop(
    image: &RgbImage,
    region: Region,
    size: usize,
    interpolation: Interpolation,
    planes: &mut [f32],
) {
    in_levels(size, planes, |levels| {
        resized_crop_levels(image, region, size, interpolation, levels);
    });
}

/// As [`resized_crop`], but into interleaved bytes: `levels` is `[size, size, 3]`.
///
/// # Panics
/// As [`resized_crop`].
pub fn resized_crop_levels(
    image: &RgbImage,
    region: Region,
    size: usize,
    interpolation: Interpolation,
    levels: &mut [u8],
) {
    resize(image, region, whole(region.width), whole(region.height), size, interpolation, levels);
}

/// Resizes the short side of the image to `short` pixels and keeps the middle `size` × `size` of it
/// (at most `short`), without resizing the rest. `planes` is `[3, size, size]`.
///
/// # Panics
/// If the image has no pixels, or `size` is above `short`.
pub fn center_crop(
    image: &RgbImage,
    short: u32,
    size: usize,
    interpolation: Interpolation,
    planes: &mut [f32],
) {
    in_levels(size, planes, |levels| {
        center_crop_levels(image, short, size, interpolation, levels);
    });
}

/// As [`center_crop`], but into interleaved bytes: `levels` is `[size, size, 3]`.
///
/// # Panics
/// As [`center_crop`].
pub fn center_crop_levels(
    image: &RgbImage,
    short: u32,
    size: usize,
    interpolation: Interpolation,
    levels: &mut [u8],
) {
    let (width, height) = image.dimensions();
    let columns = middle_span(width, width.min(height), short, size);
    let rows = middle_span(height, width.min(height), short, size);
    let all = Region { top: 0, left: 0, height, width };
    resize(image, all, columns, rows, size, interpolation, levels);
}

/// The columns and the rows of an image of this width and height that are nearest to those of its
/// [`center_crop`], `size` each: for maps whose values must not be mixed, such as classes.
///
/// # Panics
/// If the image has no pixels.
pub fn center_crop_nearest(width: u32, height: u32, short: u32, size: usize) -> [Vec<u32>; 2] {
    [width, height].map(|side| {
        let (start, length) = middle_span(side, width.min(height), short, size);
        let step = length / size as f64;
        let nearest = |i: usize| (start + (i as f64 + 0.5) * step).floor();
        (0..size).map(|i| (nearest(i) as u32).min(side - 1)).collect()
    })
}

/// The image resized to these sides by Lanczos' kernel of radius 3, antialiased: sharp, for images
/// that are stored.
///
/// # Panics
/// If the image or the result has no pixels.
pub fn resize_lanczos(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let (from_width, from_height) = image.dimensions();
    let all = Region { top: 0, left: 0, height: from_height, width: from_width };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
    let mut resized = RgbImage::new(width, height);
    let mut run = || {
        let source = TypedImageRef::from_buffer(from_width, from_height, image.as_raw())?;
        resize_region(&mut Resizer::new(), &source, all, width, height, &mut resized, &options)
    };
    run().expect("an RgbImage holds three bytes a pixel");
    resized
}

/// Has `make` write a square of levels, and parts it into planes.
fn in_levels(size: usize, planes: &mut [f32], make: impl FnOnce(&mut [u8])) {
    thread_local! {
        static SQUARE: RefCell<Vec<u8>> = RefCell::default();
    }
    SQUARE.with_borrow_mut(|square| {
        square.resize(3 * size * size, 0);
        make(square);
        planes_from_pixels(square, planes);
    });
}

/// Part of an image's side: where it starts and how long it is, in pixels.
pub(crate) type Span = (f64, f64);

fn whole(side: u32) -> Span {
    (0.0, f64::from(side))
}

/// The part of a side that becomes the middle `size` pixels when the image's `shortest` side is
/// resized to `short`.
pub(crate) fn middle_span(side: u32, shortest: u32, short: u32, size: usize) -> Span {
    // Rounded down, as in torchvision.
    let resized = (u64::from(side) * u64::from(short) / u64::from(shortest)) as f64;
    let scale = f64::from(side) / resized;
    let start = scale * ((resized - size as f64) / 2.0).round_ties_even();
    (start, (scale * size as f64).min(f64::from(side) - start))
}

/// Resizes these columns and rows of a region to a square of `size` pixels, `[size, size, 3]`. The
/// kernel may reach other pixels of the region, but none outside it.
///
/// It resizes the columns first, then the rows, and rounds each to 8 bits, as PIL does. The order
/// matters when a bicubic kernel overshoots and values are cut off in between. `Resizer` alone
/// would begin with the rows.
fn resize(
    image: &RgbImage,
    region: Region,
    columns: Span,
    rows: Span,
    size: usize,
    interpolation: Interpolation,
    square: &mut [u8],
) {
    thread_local! {
        static BUFFERS: RefCell<(Resizer, Vec<u8>)> = RefCell::default();
    }
    // In this library's "convolution", the kernel widens when the image shrinks, which antialiases.
    let filter = match interpolation {
        Interpolation::Bilinear => FilterType::Bilinear,
        Interpolation::Bicubic => FilterType::CatmullRom,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    let (side, height) = (size as u32, region.height);
    BUFFERS.with_borrow_mut(|(resizer, narrow)| {
        let mut run = || {
            let source = TypedImageRef::from_buffer(image.width(), image.height(), image.as_raw())?;
            let crop = options.crop(columns.0, 0.0, columns.1, f64::from(height));
            narrow.resize(3 * size * height as usize, 0);
            resize_region(resizer, &source, region, side, height, narrow, &crop)?;
            let source = TypedImageRef::from_buffer(side, height, narrow)?;
            let crop = options.crop(0.0, rows.0, f64::from(side), rows.1);
            let all = Region { top: 0, left: 0, height, width: side };
            resize_region(resizer, &source, all, side, side, square, &crop)
        };
        run().expect("columns and rows lie within the region, and the region within the image");
    });
}

/// The only call of `Resizer::resize_typed`: each further pair of image types would compile another
/// copy of the library's kernels, which takes ten seconds.
fn resize_region(
    resizer: &mut Resizer,
    source: &TypedImageRef<'_, U8x3>,
    region: Region,
    width: u32,
    height: u32,
    levels: &mut [u8],
    options: &ResizeOptions,
) -> Result<(), Box<dyn std::error::Error>> {
    let Region { top, left, .. } = region;
    let source = TypedCroppedImage::from_ref(source, left, top, region.width, region.height)?;
    let mut resized = TypedImage::from_buffer(width, height, levels)?;
    Ok(resizer.resize_typed(&source, &mut resized, options)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_random::{Purpose, stream};

    #[test]
    fn regions_lie_within_the_image_and_the_range() {
        let mut rng = stream(0, Purpose::View, &[]);
        for _ in 0..2000 {
            let Region { top, left, height, width } =
                random_region(300, 200, [0.2, 0.5], [0.5, 2.0], &mut rng);
            assert!(top + height <= 200 && left + width <= 300);
            let area = f64::from(width * height) / 60_000.0;
            assert!((0.19..0.51).contains(&area), "{area}");
        }
    }

    #[test]
    fn draws_never_change_between_versions() {
        // Frozen on the first day: a change here changes every result anyone has recorded.
        let mut rng = stream(0, Purpose::View, &[]);
        let region = random_region(500, 375, [0.08, 1.0], [0.75, 4.0 / 3.0], &mut rng);
        assert_eq!(region, Region { top: 49, left: 172, height: 308, width: 327 });
    }

    #[test]
    fn images_of_any_shape_are_cropped() {
        let mut rng = stream(0, Purpose::View, &[]);
        let mut planes = vec![0.0; 3 * 7 * 7];
        for width in [1, 2, 3, 10, 33, 101, 499] {
            for height in [1, 2, 3, 10, 33, 101, 499] {
                let image = RgbImage::from_pixel(width, height, image::Rgb([9; 3]));
                let region = random_region(width, height, [0.01, 1.0], [0.2, 5.0], &mut rng);
                for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
                    planes.fill(0.0);
                    resized_crop(&image, region, 7, interpolation, &mut planes);
                    assert!(
                        planes.iter().all(|&level| level == 9.0),
                        "{region:?} of {width} × {height}"
                    );
                    for short in 7..20 {
                        planes.fill(0.0);
                        center_crop(&image, short, 7, interpolation, &mut planes);
                        assert!(
                            planes.iter().all(|&level| level == 9.0),
                            "{short}: {width} × {height}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn an_image_no_crop_fits_gives_its_middle() {
        let mut rng = stream(0, Purpose::View, &[]);
        let region = random_region(1000, 10, [0.9, 1.0], [0.75, 4.0 / 3.0], &mut rng);
        assert_eq!(region, Region { top: 0, left: 493, height: 10, width: 13 });
        let region = random_region(10, 1000, [0.9, 1.0], [0.75, 4.0 / 3.0], &mut rng);
        assert_eq!(region, Region { top: 493, left: 0, height: 13, width: 10 });
        assert_eq!(random_region(1, 1, [0.08, 1.0], [0.75, 1.0], &mut rng).height, 1);
    }

    #[test]
    fn center_crop_is_resizing_whole_and_cropping() {
        // A ramp from left to right keeps its values under resizing, away from the borders.
        let image = RgbImage::from_fn(120, 60, |x, _| image::Rgb([2 * x as u8; 3]));
        let mut planes = vec![0.0; 3 * 20 * 20];
        center_crop(&image, 30, 20, Interpolation::Bilinear, &mut planes);
        for (x, level) in planes[..20].iter().enumerate() {
            let expected = 2.0 * (40.0 + 2.0 * x as f32 + 0.5); // column 20 of 60 begins at pixel 40 of 120
            assert!((level - expected).abs() <= 1.0, "column {x}: {level}, expected {expected}");
        }
    }

    #[test]
    fn the_nearest_pixels_are_where_the_center_crop_looks() {
        // Each column and row has its own level, which resizing by half keeps to a level.
        let image = RgbImage::from_fn(120, 60, |x, y| image::Rgb([2 * x as u8, 4 * y as u8, 0]));
        let mut planes = vec![0.0; 3 * 20 * 20];
        center_crop(&image, 30, 20, Interpolation::Bilinear, &mut planes);
        let [columns, rows] = center_crop_nearest(120, 60, 30, 20);
        for i in 0..20 {
            let (x, y) = (columns[i], rows[i]);
            assert!((planes[i] - 2.0 * x as f32).abs() <= 2.0, "column {i}: {x}");
            assert!((planes[400 + 20 * i] - 4.0 * y as f32).abs() <= 4.0, "row {i}: {y}");
        }
        // An image of the crop's own size is taken as it is.
        let all: Vec<u32> = (0..20).collect();
        assert_eq!(center_crop_nearest(20, 20, 20, 20), [all.clone(), all]);
    }

    #[test]
    fn pixels_outside_of_the_region_have_no_influence() {
        let image =
            RgbImage::from_fn(40, 40, |x, _| image::Rgb([if x < 20 { 50 } else { 250 }; 3]));
        let region = Region { top: 3, left: 0, height: 20, width: 20 };
        let mut planes = vec![0.0; 3 * 8 * 8];
        resized_crop(&image, region, 8, Interpolation::Bicubic, &mut planes);
        assert!(planes.iter().all(|&level| level == 50.0));
    }
}
