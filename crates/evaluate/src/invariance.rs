//! How far graded changes of an image move its features, and whether a linear classifier can read
//! the change from them.

use image::{RgbImage, imageops};
use portolan_augment::ops;
use portolan_data::{ImageData, Source};
use portolan_tensor::{Kind, Tensor};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::labels::accuracy;
use crate::normalize::unit_rows;
use crate::protocols::probe::LinearProbe;

/// The fewest images of a split.
const FEWEST: usize = 10;

/// A change of an image, with its amount.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Rotation about the center by this many degrees. What enters at the corners has the mean
    /// color of the border.
    Rotation(f64),
    /// The center, with this share of each side.
    Crop(f64),
    /// A Gaussian blur whose standard deviation is this share of the width.
    Blur(f64),
    /// Every value times this.
    Brightness(f64),
    /// All colors turned by this share of the color circle.
    Hue(f64),
}

/// The changes that [`invariance`] measures, of each kind from weak to strong.
pub const CHANGES: [Change; 16] = [
    Change::Rotation(15.0),
    Change::Rotation(45.0),
    Change::Rotation(90.0),
    Change::Rotation(180.0),
    Change::Crop(0.9),
    Change::Crop(0.75),
    Change::Crop(0.5),
    Change::Blur(0.02),
    Change::Blur(0.04),
    Change::Blur(0.08),
    Change::Brightness(0.8),
    Change::Brightness(0.6),
    Change::Brightness(0.4),
    Change::Hue(0.1),
    Change::Hue(0.25),
    Change::Hue(0.5),
];

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| (100.0 * share).round();
        match *self {
            Change::Rotation(degrees) => write!(f, "rotation by {degrees}°"),
            Change::Crop(share) => write!(f, "crop to {} % of the side", percent(share)),
            Change::Blur(share) => write!(f, "blur of {} % of the width", percent(share)),
            Change::Brightness(factor) => write!(f, "brightness × {factor}"),
            Change::Hue(turns) => write!(f, "hue turned by {} %", percent(turns)),
        }
    }
}

impl Change {
    /// The image after the change.
    pub fn apply(self, image: &RgbImage) -> RgbImage {
        let (width, height) = image.dimensions();
        match self {
            Change::Rotation(degrees) => on_planes(image, |planes| rotate(planes, image, degrees)),
            Change::Crop(share) => {
                let side = |all: u32| ((f64::from(all) * share).round() as u32).max(1);
                let (w, h) = (side(width), side(height));
                imageops::crop_imm(image, (width - w) / 2, (height - h) / 2, w, h).to_image()
            }
            Change::Blur(share) => on_planes(image, |planes| {
                let sigma = share * f64::from(width);
                // Three deviations to each side.
                let kernel = 2 * (3.0 * sigma).ceil() as u32 + 1;
                ops::gaussian_blur(planes, width as usize, sigma, kernel);
            }),
            Change::Brightness(factor) => {
                on_planes(image, |planes| ops::brightness(planes, factor as f32))
            }
            Change::Hue(turns) => on_planes(image, |planes| ops::hue(planes, turns as f32)),
        }
    }
}

/// Changes the image as planes of floats, one for each channel.
fn on_planes(image: &RgbImage, change: impl FnOnce(&mut [f32])) -> RgbImage {
    let pixels = (image.width() * image.height()) as usize;
    let mut planes = vec![0.0; 3 * pixels];
    for (i, pixel) in image.pixels().enumerate() {
        for (channel, &value) in pixel.0.iter().enumerate() {
            planes[channel * pixels + i] = f32::from(value);
        }
    }
    change(&mut planes);
    let mut changed = image.clone();
    for (i, pixel) in changed.pixels_mut().enumerate() {
        pixel.0 = [0, 1, 2].map(|channel| planes[channel * pixels + i].round() as u8);
    }
    changed
}

fn rotate(planes: &mut [f32], image: &RgbImage, degrees: f64) {
    let (width, height) = image.dimensions();
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (x, y) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
    let matrix = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y];
    ops::affine(planes, width as usize, matrix, border(image));
}

/// The mean color of the outermost pixels.
fn border(image: &RgbImage) -> [f32; 3] {
    let (right, bottom) = (image.width() - 1, image.height() - 1);
    let at_border = |x: u32, y: u32| x == 0 || y == 0 || x == right || y == bottom;
    let (mut sum, mut count) = ([0.0; 3], 0.0);
    for (_, _, pixel) in image.enumerate_pixels().filter(|&(x, y, _)| at_border(x, y)) {
        count += 1.0;
        (0..3).for_each(|channel| sum[channel] += f32::from(pixel.0[channel]));
    }
    sum.map(|sum| sum / count)
}

/// The images of a source, each changed.
struct Changed {
    source: Arc<dyn Source>,
    change: Change,
}

impl Source for Changed {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn image(&self, index: usize) -> portolan_data::Result<ImageData> {
        Ok(ImageData::Decoded(self.change.apply(&self.source.image(index)?.decode()?)))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(index)
    }

    fn describe(&self, index: usize) -> String {
        format!("{}, {}", self.source.describe(index), self.change)
    }
}

/// Embeddings of images and of the same images after each of [`CHANGES`], `[n, width]` each: of the
/// training split, to fit classifiers to, and of the test split.
#[derive(Debug)]
pub struct ChangedImages {
    plain: [Tensor; 2],
    changed: Vec<[Tensor; 2]>,
}

impl ChangedImages {
    /// Embeds the images of a training and a test split.
    ///
    /// # Errors
    /// When `embed` fails, or a split has fewer than 10 images.
    pub fn embed<E: From<Error>>(
        splits: &[Arc<dyn Source>; 2],
        embed: impl Fn(&dyn Source) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let [train, test] = splits.each_ref().map(|split| split.len());
        if train.min(test) < FEWEST {
            return Err(E::from(Error::Images(format!(
                "changes are read from {FEWEST} images of each split or more, and there are \
                 {train} and {test}"
            ))));
        }
        let [train, test] = splits;
        let of = |change| {
            let changed =
                |source: &Arc<dyn Source>| embed(&Changed { source: Arc::clone(source), change });
            Ok([changed(train)?, changed(test)?])
        };
        Ok(ChangedImages {
            plain: [embed(&**train)?, embed(&**test)?],
            changed: CHANGES.into_iter().map(of).collect::<Result<_, E>>()?,
        })
    }

    /// Applies another layer to all embeddings; `None` if `layer` returns `None`.
    pub fn map(&self, layer: impl Fn(&Tensor) -> Option<Tensor>) -> Option<Self> {
        let both = |[train, test]: &[Tensor; 2]| Some([layer(train)?, layer(test)?]);
        Some(ChangedImages {
            plain: both(&self.plain)?,
            changed: self.changed.iter().map(both).collect::<Option<_>>()?,
        })
    }
}

/// What a change does to features.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InvarianceRow {
    /// The change, as text.
    pub change: String,
    /// How far it moves the features of an image, relative to the distance between images: 0 if
    /// they are invariant. Features have length one.
    pub moved: f64,
    /// The accuracy with which a linear classifier, fitted to the training split, tells changed
    /// test images from unchanged ones: 0.5 is chance.
    pub read: f64,
}

/// What each of [`CHANGES`] does to features.
///
/// # Errors
/// When a classifier cannot be fitted, or images could be read only before or only after a change.
pub fn invariance(images: &ChangedImages) -> Result<Vec<InvarianceRow>> {
    let [train, test] = &images.plain;
    let unit = unit_rows(test);
    let apart = mean_distance(&unit, &unit.roll([1], [0]));
    let mut rows = Vec::new();
    for (change, [changed_train, changed_test]) in CHANGES.iter().zip(&images.changed) {
        if changed_train.size() != train.size() || changed_test.size() != test.size() {
            return Err(Error::Images(format!(
                "some images cannot be read after a change ({change}) or only after it"
            )));
        }
        let both = |plain, changed| Tensor::cat(&[plain, changed], 0);
        let labels = |plain: &Tensor| {
            let zeros = Tensor::zeros([plain.size()[0]], (Kind::Int64, plain.device()));
            Tensor::cat(&[&zeros, &zeros.ones_like()], 0)
        };
        let probe = LinearProbe::fit(&both(train, changed_train), &labels(train), 2)?;
        let predicted = probe.predict(&both(test, changed_test))?;
        rows.push(InvarianceRow {
            change: change.to_string(),
            moved: mean_distance(&unit, &unit_rows(changed_test)) / apart,
            read: accuracy(&predicted, &labels(test)),
        });
    }
    Ok(rows)
}

/// The mean distance between the rows of two matrices.
fn mean_distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).norm_scalaropt_dim(2, [1], false).mean(Kind::Double).double_value(&[])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use image::Rgb;
    use portolan_data::{Options, open};

    /// A dark image with a bright spot right of the center.
    fn spot() -> RgbImage {
        let mut image = RgbImage::from_pixel(9, 9, Rgb([10, 10, 10]));
        image.put_pixel(7, 4, Rgb([200, 0, 0]));
        image
    }

    #[test]
    fn changes_do_what_they_say() {
        let turned = Change::Rotation(90.0).apply(&spot());
        let bright = |image: &RgbImage| {
            image.enumerate_pixels().max_by_key(|(_, _, pixel)| pixel.0[0]).map(|(x, y, _)| (x, y))
        };
        // As torch.rot90: counter-clockwise.
        assert_eq!(bright(&turned), bright(&ops::rotate90(&spot(), 1)));
        assert_eq!(turned.get_pixel(0, 0), &Rgb([10, 10, 10]));
        assert_eq!(Change::Crop(0.5).apply(&spot()).dimensions(), (5, 5));
        let blurred = Change::Blur(0.1).apply(&spot());
        assert!(blurred.get_pixel(7, 4).0[0] < 100 && blurred.get_pixel(6, 4).0[0] > 20);
        assert_eq!(Change::Brightness(0.5).apply(&spot()).get_pixel(7, 4), &Rgb([100, 0, 0]));
        let [r, g, b] = Change::Hue(0.5).apply(&spot()).get_pixel(7, 4).0;
        assert!(r < 10 && g > 190 && b > 190, "{r} {g} {b}");
    }

    #[test]
    fn features_that_ignore_a_change_do_not_move_and_say_nothing_of_it() {
        portolan_tensor::tch::set_num_threads(1);
        let options = Options { train: 60, test: 60, ..Options::default() };
        let data = open("shapes", &options).unwrap();
        let splits = [Arc::clone(&data.train), Arc::clone(data.test.as_ref().unwrap())];
        // The mean color of each image: no rotation by a quarter turn changes it, darkness does.
        let mean_color = |source: &dyn Source| -> Result<Tensor> {
            let one = |index| {
                let image = source.image(index).unwrap().decode().unwrap();
                let mut sum = [0f32; 3];
                image.pixels().for_each(|p| (0..3).for_each(|c| sum[c] += f32::from(p.0[c])));
                // A constant, so that a darker image has another direction.
                let [r, g, b] = sum.map(|it| it / (32.0 * 32.0 * 64.0));
                Tensor::from_slice(&[r, g, b, 1.0])
            };
            Ok(Tensor::stack(&(0..source.len()).map(one).collect::<Vec<_>>(), 0))
        };
        let images = ChangedImages::embed(&splits, mean_color).unwrap();
        let rows = invariance(&images).unwrap();
        let row = |name: &str| rows.iter().find(|row| row.change == name).unwrap();
        let turned = row("rotation by 90°");
        assert!(turned.moved < 0.01 && (turned.read - 0.5).abs() < 0.1, "{turned:?}");
        let (dim, dark) = (row("brightness × 0.8"), row("brightness × 0.4"));
        assert!(dark.moved > dim.moved && dim.moved > 0.1, "{dim:?} {dark:?}");
        assert!(dark.read > 0.8, "{dark:?}");
        // A layer that is constant knows nothing.
        let nothing = images.map(|x| Some(x.narrow(1, 3, 1))).unwrap();
        assert_eq!(invariance(&nothing).unwrap()[2].read, 0.5);
        assert!(images.map(|_| None).is_none());
    }
}
