//! Makes the views of a whole batch by tensor operations, on the device of the images: a GPU or the
//! CPU.
//!
//! The CPU engine makes one view after another, of images of any size. This one makes one operation
//! after another, each for the whole batch: a GPU is fast at that, and the CPU's cores stay free.
//! The numbers are drawn first, on the CPU, from one stream for a batch ([`Draws`]). Formulas and
//! distributions are those of the CPU engine, but the images of a batch share the order of a
//! jitter's changes. (A loader that decodes only the regions of photographs draws these from a
//! stream for each image, with [`Draws::set_regions`].)
//!
//! ```
//! use portolan_augment::{Draws, device, presets};
//! use portolan_random::{Purpose, stream};
//! use portolan_tensor::{Device, Kind, Tensor};
//!
//! let spec = presets::small_images(32);
//! let images = Tensor::zeros([4, 32, 32, 3], (Kind::Uint8, Device::Cpu)); // one per draw
//! let (step, micro_batch, view) = (17, 0, 0);
//! let mut rng = stream(0, Purpose::BatchViews, &[step, micro_batch, view]);
//! let draws = Draws::new(&spec, &[(32, 32); 4], &mut rng);
//! assert_eq!(device::views(&images, &draws).size(), [4, 3, 32, 32]);
//! ```
//!
//! Resizing and blurring are matrix products, one matrix for each image and direction. They
//! antialias and reflect as the CPU engine does, which `grid_sample` does not, and GPUs are fastest
//! at them.

pub mod ops;
mod resample;

use portolan_tensor::{Kind, Tensor, no_grad, upload};

use crate::draws::{Adjustment, DrawnOp, Draws};

/// The views of `images` (`[batch, height, width, 3]`, uint8, all of one size): `[batch, 3, size,
/// size]`, float32, normalized, on the images' device.
///
/// # Panics
/// If the draws are for another batch size, or have an operation that only the CPU engine makes
/// ([`Op::RandAugment`](crate::Op::RandAugment)).
pub fn views(images: &Tensor, draws: &Draws) -> Tensor {
    no_grad(|| apply(ops::to_planes(images), draws.ops(), draws.size()))
}

/// The views of images that [`cpu::cropped`](crate::cpu::cropped) has cropped and resized
/// (`[batch, size, size, 3]`, uint8): photographs differ in size, and are sent to the device small.
///
/// # Panics
/// As [`views`].
pub fn views_of_cropped(cropped: &Tensor, draws: &Draws) -> Tensor {
    no_grad(|| apply(ops::to_planes(cropped), &draws.ops()[1..], draws.size()))
}

/// Applies operations to planes, `[batch, 3, height, width]`.
fn apply(mut planes: Tensor, drawn: &[DrawnOp], size: usize) -> Tensor {
    let batch = planes.size()[0];
    // The numbers of all operations go to the device at once.
    let rows: Vec<Vec<Vec<f32>>> = drawn.iter().map(rows).collect();
    let table = upload(&Tensor::from_slice(&rows.concat().concat()), planes.device());
    let table = table.view([-1, batch, 1, 1, 1]);
    let mut start = 0;
    for (op, rows) in drawn.iter().zip(&rows) {
        let row = |i: usize| table.get(start + i as i64);
        planes = match op {
            DrawnOp::RandomResizedCrop { regions, interpolation } => {
                ops::resized_crop(&planes, regions, size as i64, *interpolation)
            }
            DrawnOp::CenterCrop { resize, interpolation } => {
                ops::center_crop(&planes, i64::from(*resize), size as i64, *interpolation)
            }
            DrawnOp::HorizontalFlip { .. } => ops::horizontal_flip(&planes, &row(0)),
            DrawnOp::ColorJitter { adjustments, .. } => {
                let changes = adjustments.iter().enumerate();
                changes.fold(planes, |planes, (i, adjustment)| match adjustment {
                    Adjustment::Brightness(_) => ops::brightness(&planes, &row(i)),
                    Adjustment::Contrast(_) => ops::contrast(&planes, &row(i)),
                    Adjustment::Saturation(_) => ops::saturation(&planes, &row(i)),
                    Adjustment::Hue(_) => ops::hue(&planes, &row(i)),
                })
            }
            DrawnOp::Grayscale { .. } => ops::grayscale(&planes, &row(0)),
            DrawnOp::GaussianBlur { kernel, .. } => ops::gaussian_blur(&planes, &row(0), *kernel),
            DrawnOp::Solarize { threshold, .. } => ops::solarize(&planes, &row(0), *threshold),
            DrawnOp::RandAugment { .. } => panic!("`rand_augment` is made by the CPU engine alone"),
            DrawnOp::Normalize { mean, std } => ops::normalize(planes, *mean, *std),
        };
        start += rows.len() as i64;
    }
    debug_assert_eq!(planes.kind(), Kind::Float);
    planes
}

/// What an operation needs on the device: rows with a number for each image of the batch. Images
/// that it is not applied to have numbers that change nothing, such as a factor of 1 or a deviation
/// of 0.
fn rows(op: &DrawnOp) -> Vec<Vec<f32>> {
    match op {
        DrawnOp::HorizontalFlip { applied }
        | DrawnOp::Grayscale { applied }
        | DrawnOp::Solarize { applied, .. } => {
            vec![applied.iter().map(|&applied| f32::from(u8::from(applied))).collect()]
        }
        DrawnOp::ColorJitter { applied, adjustments } => {
            let row = |adjustment: &Adjustment| match adjustment {
                Adjustment::Brightness(factors)
                | Adjustment::Contrast(factors)
                | Adjustment::Saturation(factors) => where_applied(applied, factors, 1.0),
                Adjustment::Hue(turns) => where_applied(applied, turns, 0.0),
            };
            adjustments.iter().map(row).collect()
        }
        DrawnOp::GaussianBlur { applied, sigma, .. } => {
            let sigma: Vec<f32> = sigma.iter().map(|&sigma| sigma as f32).collect();
            vec![where_applied(applied, &sigma, 0.0)]
        }
        DrawnOp::RandomResizedCrop { .. }
        | DrawnOp::CenterCrop { .. }
        | DrawnOp::RandAugment { .. }
        | DrawnOp::Normalize { .. } => Vec::new(),
    }
}

/// Each image's number, or `otherwise` if the operation is not applied to it.
fn where_applied(applied: &[bool], numbers: &[f32], otherwise: f32) -> Vec<f32> {
    let choose = |(&applied, &number): (&bool, &f32)| if applied { number } else { otherwise };
    applied.iter().zip(numbers).map(choose).collect()
}
