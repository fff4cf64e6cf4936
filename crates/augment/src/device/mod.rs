//! Makes the views of a whole batch by tensor operations, where the images lie: on a GPU, or on the CPU.
//!
//! The CPU engine makes one view after the other and can be fed with pictures of any size. This one makes one
//! operation after the other, each for the whole batch: what a GPU is good at, and there it leaves the CPU's cores
//! free. Numbers are drawn first ([`Draws`], on the CPU, from one stream a batch); what follows is a function of
//! tensors alone. Formulas and distributions are the CPU engine's, with two differences in kind: the order of a
//! jitter's changes is drawn once for a batch, and numbers are drawn by the batch, not by the image
//! (a loader that crops photographs before it ships them draws their regions by the image, to decode no more than these).
//!
//! ```
//! use portolan_augment::{Draws, device, presets};
//! use portolan_random::{Purpose, stream};
//! use portolan_tensor::{Device, Kind, Tensor};
//!
//! let spec = presets::small_images(32);
//! let images = Tensor::zeros([4, 32, 32, 3], (Kind::Uint8, Device::Cpu)); // as many as the batch has
//! let (step, micro_batch, view) = (17, 0, 0);
//! let mut rng = stream(0, Purpose::BatchViews, &[step, micro_batch, view]);
//! let draws = Draws::new(&spec, &[(32, 32); 4], &mut rng);
//! assert_eq!(device::views(&spec, &images, &draws).size(), [4, 3, 32, 32]);
//! ```
//!
//! Resizing and blurring are matrix products, one matrix an image and direction: they antialias and reflect as the
//! CPU engine does, which `grid_sample` does not, and matrix products are what GPUs do best.

pub mod ops;
mod resample;

use portolan_tensor::{Kind, Tensor, no_grad, upload};

use crate::{Draws, Op, ViewSpec};

/// The views of `images` (`[batch, height, width, 3]`, uint8, all of one size): `[batch, 3, size, size]`, float32,
/// normalized, on the images' device.
///
/// # Panics
/// If the draws are another specification's or another batch size's.
pub fn views(spec: &ViewSpec, images: &Tensor, draws: &Draws) -> Tensor {
    no_grad(|| {
        let planes = ops::to_planes(images);
        let size = i64::from(spec.size());
        let cropped = match spec.ops[0] {
            Op::RandomResizedCrop { interpolation, .. } => {
                ops::resized_crop(&planes, &draws.regions, size, interpolation)
            }
            Op::CenterCrop { resize, interpolation, .. } => {
                ops::center_crop(&planes, i64::from(resize), size, interpolation)
            }
            _ => panic!("a view begins with its crop"),
        };
        after_crop(spec, cropped, draws)
    })
}

/// The views of images that are cropped and resized already (`[batch, size, size, 3]`, uint8), by
/// [`cpu::cropped`](crate::cpu::cropped): what is done with photographs, which differ in size and are shipped to the
/// device small.
///
/// # Panics
/// As [`views`] does.
pub fn views_of_cropped(spec: &ViewSpec, cropped: &Tensor, draws: &Draws) -> Tensor {
    no_grad(|| after_crop(spec, ops::to_planes(cropped), draws))
}

/// Applies all operations but the crop to planes, `[batch, 3, size, size]`.
fn after_crop(spec: &ViewSpec, mut planes: Tensor, draws: &Draws) -> Tensor {
    let batch = planes.size()[0];
    let table = upload(&Tensor::from_slice(&draws.rows.concat()), planes.device());
    let table = table.view([-1, batch, 1, 1, 1]);
    let mut next_row = 0;
    let mut row = || {
        next_row += 1;
        table.get(next_row - 1)
    };
    let mut orders = draws.orders.iter();
    for op in &spec.ops[1..] {
        planes = match *op {
            Op::HorizontalFlip { .. } => ops::horizontal_flip(&planes, &row()),
            Op::ColorJitter { .. } => {
                let changes = [row(), row(), row(), row()];
                let order = orders.next().expect("an order was drawn for every jitter");
                order.iter().fold(planes, |planes, &change| {
                    let drawn = &changes[change];
                    match change {
                        0 => ops::brightness(&planes, drawn),
                        1 => ops::contrast(&planes, drawn),
                        2 => ops::saturation(&planes, drawn),
                        _ => ops::hue(&planes, drawn),
                    }
                })
            }
            Op::Grayscale { .. } => ops::grayscale(&planes, &row()),
            Op::GaussianBlur { kernel, .. } => ops::gaussian_blur(&planes, &row(), kernel),
            Op::Solarize { threshold, .. } => ops::solarize(&planes, &row(), threshold),
            Op::Normalize { mean, std } => ops::normalize(planes, mean, std),
            Op::RandomResizedCrop { .. } | Op::CenterCrop { .. } => {
                panic!("a view has one crop, its first operation")
            }
            Op::RandAugment(_) => panic!("nothing can have been drawn for it"),
        };
    }
    debug_assert_eq!(planes.kind(), Kind::Float);
    planes
}
