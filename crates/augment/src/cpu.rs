//! Makes views on the CPU.
//!
//! A view depends on the image, the specification and its random stream alone. Name the stream by
//! the seed, epoch, item and view, and a batch is the same on any number of threads.

use image::RgbImage;
use portolan_random::Stream;
use rayon::prelude::*;
use std::ops::Range;

use crate::draws::{Adjustment, DrawnOp, Draws};
use crate::ops::{self, Region};
use crate::spec::{Op, ViewSpec};

/// Makes one view of `image` in `out`, which is `[3, size, size]`, channel after channel.
///
/// # Panics
/// If `out` has another length, or the image has no pixels. The specification has to pass
/// [`ViewSpec::validate`].
pub fn view(spec: &ViewSpec, image: &RgbImage, rng: &mut Stream, out: &mut [f32]) {
    drawn_view(&Draws::new(spec, &[image.dimensions()], rng), 0, image, out);
}

/// Makes the view of `image`, the `i`-th of the batch that was drawn for, in `out` (`[3, size,
/// size]`).
///
/// # Panics
/// As [`view`], and if the batch has no `i`-th image.
pub fn drawn_view(draws: &Draws, i: usize, image: &RgbImage, out: &mut [f32]) {
    let size = draws.size();
    assert_eq!(
        out.len(),
        3 * size * size,
        "a view of {size} pixels takes 3 × {size} × {size} values"
    );
    for op in draws.ops() {
        apply(op, i, image, out, size);
    }
}

/// The region of an image of this size that [`view`] crops, with this specification and stream. It
/// is the whole image unless the crop is random.
pub fn crop_region(spec: &ViewSpec, (width, height): (u32, u32), rng: &mut Stream) -> Region {
    match spec.ops.first() {
        Some(&Op::RandomResizedCrop { scale, ratio, .. }) => {
            ops::random_region(width, height, scale, ratio, rng)
        }
        _ => Region { top: 0, left: 0, height, width },
    }
}

/// The columns and rows of an image of this size that its views need, each made by [`view`] with
/// this specification and stream. No other pixels need to be decoded.
pub fn needed_area<'a>(
    size: (u32, u32),
    views: impl IntoIterator<Item = (&'a ViewSpec, Stream)>,
) -> (Range<u32>, Range<u32>) {
    let areas = views.into_iter().map(|(spec, mut rng)| {
        let Region { top, left, height, width } = crop_region(spec, size, &mut rng);
        (left..left + width, top..top + height)
    });
    let join = |a: Range<u32>, b: Range<u32>| a.start.min(b.start)..a.end.max(b.end);
    areas.reduce(|a, b| (join(a.0, b.0), join(a.1, b.1))).unwrap_or((0..size.0, 0..size.1))
}

/// Only the crop of the view of `image`, the `i`-th of the batch that was drawn for, as whole
/// levels in `out` (`[size, size, 3]`). The device engine continues from there.
///
/// # Panics
/// As [`drawn_view`], and if the view does not begin with a crop.
pub fn cropped(draws: &Draws, i: usize, image: &RgbImage, out: &mut [u8]) {
    let size = draws.size();
    match draws.ops().first() {
        Some(DrawnOp::RandomResizedCrop { regions, interpolation }) => {
            ops::resized_crop_levels(image, regions[i], size, *interpolation, out);
        }
        Some(&DrawnOp::CenterCrop { resize, interpolation }) => {
            ops::center_crop_levels(image, resize, size, interpolation, out);
        }
        _ => panic!("a view begins with its crop"),
    }
}

/// The same view before its normalization, as an image for display.
///
/// # Panics
/// As [`view`].
pub fn preview(spec: &ViewSpec, image: &RgbImage, rng: &mut Stream) -> RgbImage {
    let mut spec = spec.clone();
    spec.ops.retain(|op| !matches!(op, Op::Normalize { .. }));
    let size = spec.size() as usize;
    let mut planes = vec![0.0; 3 * size * size];
    view(&spec, image, rng, &mut planes);
    ops::to_image(&planes, size)
}

/// Makes one view of each image, on all of rayon's threads. `out` is `[n, 3, size, size]`;
/// `stream(i)` is the random stream of the i-th image.
///
/// # Panics
/// As [`view`].
pub fn batch(
    spec: &ViewSpec,
    images: &[&RgbImage],
    stream: impl Fn(usize) -> Stream + Sync,
    out: &mut [f32],
) {
    if images.is_empty() {
        return;
    }
    let each = 3 * (spec.size() as usize).pow(2);
    assert_eq!(out.len(), each * images.len(), "{} views take {each} values each", images.len());
    let views = out.par_chunks_exact_mut(each).zip(images).enumerate();
    views.for_each(|(i, (out, image))| view(spec, image, &mut stream(i), out));
}

/// Applies one operation to the planes of the `i`-th image's view, `size` pixels wide. The crop
/// fills them from `image`.
fn apply(op: &DrawnOp, i: usize, image: &RgbImage, planes: &mut [f32], size: usize) {
    match op {
        DrawnOp::RandomResizedCrop { regions, interpolation } => {
            ops::resized_crop(image, regions[i], size, *interpolation, planes);
        }
        DrawnOp::CenterCrop { resize, interpolation } => {
            ops::center_crop(image, *resize, size, *interpolation, planes);
        }
        DrawnOp::HorizontalFlip { applied } => {
            if applied[i] {
                ops::horizontal_flip(planes, size);
            }
        }
        DrawnOp::ColorJitter { applied, adjustments } => {
            if applied[i] {
                adjustments.iter().for_each(|adjustment| adjust(adjustment, i, planes));
            }
        }
        DrawnOp::Grayscale { applied } => {
            if applied[i] {
                ops::grayscale(planes);
            }
        }
        DrawnOp::GaussianBlur { applied, sigma, kernel } => {
            if applied[i] {
                ops::gaussian_blur(planes, size, sigma[i], *kernel);
            }
        }
        DrawnOp::Solarize { applied, threshold } => {
            if applied[i] {
                ops::solarize(planes, *threshold);
            }
        }
        DrawnOp::RandAugment { changes, fill } => {
            changes[i].iter().for_each(|change| change.apply(planes, size, *fill));
        }
        DrawnOp::Normalize { mean, std } => ops::normalize(planes, *mean, *std),
    }
}

fn adjust(adjustment: &Adjustment, i: usize, planes: &mut [f32]) {
    match adjustment {
        Adjustment::Brightness(factors) => ops::brightness(planes, factors[i]),
        Adjustment::Contrast(factors) => ops::contrast(planes, factors[i]),
        Adjustment::Saturation(factors) => ops::saturation(planes, factors[i]),
        Adjustment::Hue(turns) => ops::hue(planes, turns[i]),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use portolan_random::{Purpose, stream};

    use super::*;
    use crate::presets;

    fn photograph(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([x * 255 / width, y * 255 / height, (x * y) % 256].map(|v| v as u8))
        })
    }

    fn rng(item: usize) -> Stream {
        stream(5, Purpose::View, &[0, item as u64, 0])
    }

    #[test]
    fn a_batch_is_the_same_on_one_thread_and_on_three() {
        let spec = presets::simclr(16);
        let images: Vec<_> = (0..40).map(|i| photograph(20 + i, 30)).collect();
        let images: Vec<_> = images.iter().collect();
        let on = |threads| {
            let mut out = vec![0.0; images.len() * 3 * 16 * 16];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| batch(&spec, &images, rng, &mut out));
            out
        };
        let one = on(1);
        assert_eq!(one, on(3));
        let mut last = vec![0.0; 3 * 16 * 16];
        view(&spec, images[39], &mut rng(39), &mut last);
        assert_eq!(one[39 * last.len()..], last);
        assert_ne!(one[..last.len()], last);
    }

    #[test]
    fn a_view_depends_on_the_needed_area_alone() {
        let image = photograph(60, 40);
        for (spec, item) in
            (0..30).map(|item| (presets::mae(16), item)).chain([(presets::evaluation(20, 16), 0)])
        {
            let (columns, rows) = needed_area(image.dimensions(), [(&spec, rng(item))]);
            let part = RgbImage::from_fn(60, 40, |x, y| {
                let seen = columns.contains(&x) && rows.contains(&y);
                if seen { *image.get_pixel(x, y) } else { image::Rgb([255, 0, 255]) }
            });
            let of = |image: &RgbImage| preview(&spec, image, &mut rng(item));
            assert_eq!(of(&image), of(&part), "{columns:?}, {rows:?}");
            let both =
                needed_area(image.dimensions(), [(&spec, rng(item)), (&spec, rng(item + 1))]);
            assert!(both.0.start <= columns.start && both.0.end >= columns.end);
            assert!(both.1.start <= rows.start && both.1.end >= rows.end);
        }
    }

    #[test]
    fn a_preview_is_the_view_before_normalization() {
        let (mean, std) = ([0.5, 0.4, 0.3], [0.2, 0.25, 0.3]);
        let (spec, image) =
            (presets::moco_v2(24).with_normalization(mean, std), photograph(50, 40));
        let mut out = vec![0.0; 3 * 24 * 24];
        for item in 0..20 {
            view(&spec, &image, &mut rng(item), &mut out);
            let shown = preview(&spec, &image, &mut rng(item));
            for (i, value) in out.iter().enumerate() {
                let (channel, pixel) = (i / (24 * 24), i % (24 * 24));
                let level = 255.0 * (value * std[channel] + mean[channel]);
                let displayed = f32::from(shown.as_raw()[3 * pixel + channel]);
                assert!((level - displayed).abs() < 0.501, "view {level}, displayed {displayed}");
            }
        }
    }

    #[test]
    fn the_evaluation_view_keeps_an_image_of_its_size() {
        let image = photograph(32, 32);
        assert_eq!(preview(&presets::evaluation(32, 32), &image, &mut rng(0)), image);
    }

    #[test]
    fn probabilities_are_kept() {
        let image = RgbImage::from_fn(8, 8, |x, _| image::Rgb([x as u8 * 30, 0, 0]));
        let mut spec = presets::evaluation(8, 8);
        spec.ops.insert(1, Op::HorizontalFlip { p: 0.3 });
        let flipped = (0..2000).filter(|&i| preview(&spec, &image, &mut rng(i)) != image).count();
        assert!((540..660).contains(&flipped), "{flipped} of 2000"); // 600 ± 3 deviations
    }
}
