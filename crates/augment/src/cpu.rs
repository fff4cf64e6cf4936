//! Makes views on the CPU.
//!
//! A view depends on the image, the specification and its random stream alone. Name the stream by what the
//! view is (seed, epoch, item, view), and a batch is the same on any number of threads.

use image::RgbImage;
use portolan_random::Stream;
use rand::RngExt;
use rayon::prelude::*;
use std::ops::Range;

use crate::ops::{self, Adjustment, Region};
use crate::{Op, ViewSpec};

/// Makes one view of `image` in `out`, which is `[3, size, size]`, channel after channel.
///
/// # Panics
/// If `out` has another length, or the image has no pixels. The specification has to pass
/// [`ViewSpec::validate`].
pub fn view(spec: &ViewSpec, image: &RgbImage, rng: &mut Stream, out: &mut [f32]) {
    let size = spec.size() as usize;
    assert_eq!(
        out.len(),
        3 * size * size,
        "a view of {size} pixels takes 3 × {size} × {size} values"
    );
    for op in &spec.ops {
        apply(op, image, rng, out, size);
    }
}

/// The region that a view cuts from an image of this size, made by [`view`] of this specification from this stream: a random
/// crop's, the whole image otherwise.
pub fn region(spec: &ViewSpec, (width, height): (u32, u32), rng: &mut Stream) -> Region {
    match spec.ops.first() {
        Some(&Op::RandomResizedCrop { scale, ratio, .. }) => {
            ops::random_region(width, height, scale, ratio, rng)
        }
        _ => Region { top: 0, left: 0, height, width },
    }
}

/// The columns and rows of an image of this size that its views look at, each made by [`view`] of this specification from
/// this stream; the other pixels need not be known.
pub fn looked_at<'a>(
    size: (u32, u32),
    views: impl IntoIterator<Item = (&'a ViewSpec, Stream)>,
) -> (Range<u32>, Range<u32>) {
    let areas = views.into_iter().map(|(spec, mut rng)| {
        let Region { top, left, height, width } = region(spec, size, &mut rng);
        (left..left + width, top..top + height)
    });
    let join = |a: Range<u32>, b: Range<u32>| a.start.min(b.start)..a.end.max(b.end);
    areas.reduce(|a, b| (join(a.0, b.0), join(a.1, b.1))).unwrap_or((0..size.0, 0..size.1))
}

/// The crop of a view alone, as whole levels in `out`, which is `[size, size, 3]`: what the device engine goes on with
/// from photographs. A random crop's region is drawn beforehand ([`region`]).
///
/// # Panics
/// As [`view`] does, and if a random crop has no region.
pub fn cropped(spec: &ViewSpec, image: &RgbImage, region: Option<Region>, out: &mut [u8]) {
    let size = spec.size() as usize;
    match spec.ops[0] {
        Op::RandomResizedCrop { interpolation, .. } => {
            let region = region.expect("a random crop has its region drawn");
            ops::resized_crop_levels(image, region, size, interpolation, out);
        }
        Op::CenterCrop { resize, interpolation, .. } => {
            ops::center_crop_levels(image, resize, size, interpolation, out);
        }
        _ => panic!("a view begins with its crop"),
    }
}

/// The same view before its normalization, as a picture to look at.
///
/// # Panics
/// As [`view`] does.
pub fn picture(spec: &ViewSpec, image: &RgbImage, rng: &mut Stream) -> RgbImage {
    let mut spec = spec.clone();
    spec.ops.retain(|op| !matches!(op, Op::Normalize { .. }));
    let size = spec.size() as usize;
    let mut planes = vec![0.0; 3 * size * size];
    view(&spec, image, rng, &mut planes);
    ops::to_image(&planes, size)
}

/// Makes one view of each image, on all of rayon's threads. `out` is `[n, 3, size, size]`; `stream(i)` names
/// the random stream of the i-th image.
///
/// # Panics
/// As [`view`] does.
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

/// Applies one operation to the planes of a view `size` pixels wide; the crop fills them from `image`.
///
/// Every operation draws all its numbers whether it is applied or not, so that changing one probability leaves
/// the draws of the others as they were. (Only the crop's number of draws varies: it may need several tries.)
fn apply(op: &Op, image: &RgbImage, rng: &mut Stream, planes: &mut [f32], size: usize) {
    match *op {
        Op::RandomResizedCrop { scale, ratio, interpolation, .. } => {
            let region = ops::random_region(image.width(), image.height(), scale, ratio, rng);
            ops::resized_crop(image, region, size, interpolation, planes);
        }
        Op::CenterCrop { resize, interpolation, .. } => {
            ops::center_crop(image, resize, size, interpolation, planes);
        }
        Op::HorizontalFlip { p } => {
            if chance(p, rng) {
                ops::horizontal_flip(planes, size);
            }
        }
        Op::ColorJitter { p, brightness, contrast, saturation, hue } => {
            let applied = chance(p, rng);
            let adjustments = Adjustment::draw(brightness, contrast, saturation, hue, rng);
            if applied {
                adjustments.into_iter().for_each(|adjustment| adjustment.apply(planes));
            }
        }
        Op::Grayscale { p } => {
            if chance(p, rng) {
                ops::grayscale(planes);
            }
        }
        Op::GaussianBlur { p, sigma, kernel } => {
            let applied = chance(p, rng);
            let sigma = ops::uniform(sigma, rng);
            if applied {
                ops::gaussian_blur(planes, size, sigma, kernel);
            }
        }
        Op::Solarize { p, threshold } => {
            if chance(p, rng) {
                ops::solarize(planes, threshold);
            }
        }
        Op::RandAugment(ref changes) => changes.apply(planes, size, rng),
        Op::Normalize { mean, std } => ops::normalize(planes, mean, std),
    }
}

fn chance(p: f64, rng: &mut Stream) -> bool {
    rng.random::<f64>() < p
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ops::RandAugment;
    use crate::presets;
    use portolan_random::{Purpose, stream};

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
    fn a_view_does_not_look_beyond_what_it_looks_at() {
        let image = photograph(60, 40);
        for (spec, item) in
            (0..30).map(|item| (presets::mae(16), item)).chain([(presets::evaluation(20, 16), 0)])
        {
            let (columns, rows) = looked_at(image.dimensions(), [(&spec, rng(item))]);
            let part = RgbImage::from_fn(60, 40, |x, y| {
                let seen = columns.contains(&x) && rows.contains(&y);
                if seen { *image.get_pixel(x, y) } else { image::Rgb([255, 0, 255]) }
            });
            let of = |image: &RgbImage| picture(&spec, image, &mut rng(item));
            assert_eq!(of(&image), of(&part), "{columns:?}, {rows:?}");
            let both = looked_at(image.dimensions(), [(&spec, rng(item)), (&spec, rng(item + 1))]);
            assert!(both.0.start <= columns.start && both.0.end >= columns.end);
            assert!(both.1.start <= rows.start && both.1.end >= rows.end);
        }
    }

    #[test]
    fn a_picture_is_the_view_before_normalization() {
        let (mean, std) = ([0.5, 0.4, 0.3], [0.2, 0.25, 0.3]);
        let (spec, image) =
            (presets::moco_v2(24).with_normalization(mean, std), photograph(50, 40));
        let mut out = vec![0.0; 3 * 24 * 24];
        for item in 0..20 {
            view(&spec, &image, &mut rng(item), &mut out);
            let picture = picture(&spec, &image, &mut rng(item));
            for (i, value) in out.iter().enumerate() {
                let (channel, pixel) = (i / (24 * 24), i % (24 * 24));
                let level = 255.0 * (value * std[channel] + mean[channel]);
                let shown = f32::from(picture.as_raw()[3 * pixel + channel]);
                assert!((level - shown).abs() < 0.501, "view {level}, picture {shown}");
            }
        }
    }

    #[test]
    fn the_evaluation_view_keeps_an_image_of_its_size() {
        let image = photograph(32, 32);
        assert_eq!(picture(&presets::evaluation(32, 32), &image, &mut rng(0)), image);
    }

    #[test]
    fn every_operation_draws_the_same_numbers_whether_applied_or_not() {
        let image = photograph(32, 32);
        let left_over = |p| {
            let mut rng = rng(1);
            let mut planes = vec![0.0; 3 * 32 * 32];
            for op in [
                Op::HorizontalFlip { p },
                Op::ColorJitter { p, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
                Op::Grayscale { p },
                Op::GaussianBlur { p, sigma: [0.1, 2.0], kernel: 5 },
                Op::Solarize { p, threshold: 128 },
                Op::RandAugment(RandAugment { p, ..RandAugment::timm() }),
            ] {
                apply(&op, &image, &mut rng, &mut planes, 32);
            }
            rng.random::<u64>()
        };
        assert_eq!(left_over(0.0), left_over(1.0));
    }

    #[test]
    fn probabilities_are_kept() {
        let image = RgbImage::from_fn(8, 8, |x, _| image::Rgb([x as u8 * 30, 0, 0]));
        let mut spec = presets::evaluation(8, 8);
        spec.ops.insert(1, Op::HorizontalFlip { p: 0.3 });
        let flipped = (0..2000).filter(|&i| picture(&spec, &image, &mut rng(i)) != image).count();
        assert!((540..660).contains(&flipped), "{flipped} of 2000 at p = 0.3"); // 600 ± 3 standard deviations
    }
}
