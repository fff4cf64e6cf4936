//! Features without a network, as baselines that pretraining has to exceed.

use image::RgbImage;
use portolan_augment::ViewSpec;
use portolan_data::Source;
use portolan_tensor::{Kind, Tensor};
use std::f64::consts::PI;

use crate::error::Result;
use crate::features::Features;
use crate::images::{LoadedImages, images, rows};

/// Bins per color channel.
const BINS: usize = 4;
/// Bins of a gradient's orientation, over half a turn.
const ORIENTATIONS: i64 = 9;
/// The side of a cell, in pixels.
const CELL: i64 = 4;

/// The pixels of each image's view, normalized: `[n, 3 · size · size]`, or `[n, size · size]` if
/// all images are gray.
///
/// # Errors
/// When no image can be read, or the view is invalid.
pub fn pixels(source: &dyn Source, view: &ViewSpec) -> Result<Features> {
    let indices: Vec<usize> = (0..source.len()).collect();
    let mut read = images(source, &indices, view)?;
    let [red, green, blue] = [0, 1, 2].map(|channel| read.x.select(1, channel));
    let gray = red.equal(&green) && red.equal(&blue);
    read.x = if gray { red.flatten(1, -1) } else { read.x.flatten(1, -1) };
    Features::new(source, read)
}

/// Histograms of oriented gradients (Dalal and Triggs 2005, section 6) of each image's view: nine
/// orientations without sign, in cells of 4 × 4 pixels, normalized in blocks of 2 × 2 cells.
/// `[n, 36 · blocks]`, where a view of 28 pixels has 6 × 6 blocks.
///
/// # Errors
/// When no image can be read, or the view is invalid.
pub fn gradient_histogram(source: &dyn Source, view: &ViewSpec) -> Result<Features> {
    let indices: Vec<usize> = (0..source.len()).collect();
    let read = images(source, &indices, view)?;
    let gray = read.x.mean_dim([1i64].as_slice(), false, Kind::Float);
    // Centered differences, [-1, 0, 1]. The outermost pixels have none.
    let size = i64::from(view.size());
    let inner = |x: i64, y: i64| gray.narrow(1, y, size - 2).narrow(2, x, size - 2);
    let (dx, dy) = (inner(2, 1) - inner(0, 1), inner(1, 2) - inner(1, 0));
    let strength = (dx.square() + dy.square()).sqrt();
    // In units of a bin, from 0 to 9.
    let angle = (dy.atan2(&dx) / PI * ORIENTATIONS as f64).remainder(ORIENTATIONS as f64);
    let cells: Vec<Tensor> = (0..ORIENTATIONS)
        .map(|bin| {
            // A pixel votes for the two nearest bins, by how near they are.
            let distance = (&angle - bin as f64).abs();
            let distance = distance.minimum(&(ORIENTATIONS as f64 - &distance));
            let votes: Tensor = (-distance + 1.0).clamp_min(0.0) * &strength;
            let votes = votes.constant_pad_nd([1, 1, 1, 1]).unsqueeze(1);
            votes.avg_pool2d([CELL, CELL], [CELL, CELL], [0, 0], false, true, None)
        })
        .collect();
    let cells = Tensor::cat(&cells, 1);
    let blocks = cells.unfold(2, 2, 1).unfold(3, 2, 1); // [n, 9, rows, columns, 2, 2]
    let blocks = blocks.permute([0, 2, 3, 1, 4, 5]).flatten(3, -1);
    let length =
        (blocks.square().sum_dim_intlist([-1i64].as_slice(), true, Kind::Float) + 1e-6).sqrt();
    Features::new(source, LoadedImages { x: (blocks / length).flatten(1, -1), ..read })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use image::Rgb;
    use portolan_augment::{Interpolation, Op};
    use portolan_data::ImageData;

    use super::*;

    fn view(size: u32) -> ViewSpec {
        let crop = Op::CenterCrop { resize: size, size, interpolation: Interpolation::Bilinear };
        let normalize = Op::Normalize { mean: [0.0; 3], std: [1.0; 3] };
        ViewSpec { ops: vec![crop, normalize] }
    }

    struct One(RgbImage);

    impl Source for One {
        fn len(&self) -> usize {
            1
        }

        fn image(&self, _: usize) -> portolan_data::Result<ImageData> {
            Ok(ImageData::Decoded(self.0.clone()))
        }

        fn label(&self, _: usize) -> Option<u32> {
            Some(0)
        }

        fn describe(&self, _: usize) -> String {
            "the image".to_owned()
        }
    }

    #[test]
    fn gray_images_have_one_number_per_pixel() {
        let gray = One(RgbImage::from_pixel(4, 4, Rgb([51; 3])));
        let x = pixels(&gray, &view(4)).unwrap().x;
        assert_eq!(x.size(), [1, 16]);
        assert!((x.double_value(&[0, 5]) - 0.2).abs() < 1e-6);
        let red = One(RgbImage::from_pixel(4, 4, Rgb([51, 0, 0])));
        assert_eq!(pixels(&red, &view(4)).unwrap().x.size(), [1, 48]);
    }

    #[test]
    fn gradients_go_into_the_bin_of_their_orientation() {
        // Levels that rise to the right have gradients of angle 0, those that rise downwards of a
        // quarter turn, which lies between the bins 4 and 5 of 9 over half a turn.
        let along = |x: bool| {
            let level = move |a: u32, b: u32| Rgb([10 * if x { a } else { b } as u8; 3]);
            let image = One(RgbImage::from_fn(8, 8, level));
            gradient_histogram(&image, &view(8)).unwrap().x.view([9, 4])
        };
        let bins = |x: Tensor| {
            Vec::<f32>::try_from(x.sum_dim_intlist([1i64].as_slice(), false, Kind::Float))
        };
        let (right, down) = (bins(along(true)).unwrap(), bins(along(false)).unwrap());
        assert!(right[0] > 0.9 && right[1..].iter().all(|&votes| votes < 1e-3), "{right:?}");
        assert!((down[4] - down[5]).abs() < 1e-3 && down[4] > 0.9, "{down:?}");
        assert!(down[0] < 1e-3 && down[8] < 1e-3, "{down:?}");
    }
}
