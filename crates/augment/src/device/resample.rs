//! Resizing and blurring as products with a matrix for each image.

use portolan_tensor::{Kind, Tensor};

use crate::ops::Interpolation;

/// For each image, the part of a side that is resized, and the pixels with influence: `[batch, 1,
/// 1]` each.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) start: Tensor,
    pub(super) length: Tensor,
    /// The first pixel with influence.
    pub(super) first: Tensor,
    /// The one after the last.
    pub(super) end: Tensor,
}

impl Span {
    /// A part whose pixels alone have influence.
    pub(super) fn within(start: Tensor, length: Tensor) -> Self {
        Span { first: start.shallow_clone(), end: &start + &length, start, length }
    }
}

/// The weight of each of `input` pixels in each of `size` resized ones: `[batch, size, input]`. The
/// kernel widens when the side shrinks, as in PIL, which antialiases.
pub(super) fn weights(span: &Span, input: i64, size: i64, interpolation: Interpolation) -> Tensor {
    let options = (Kind::Float, span.start.device());
    let scale = &span.length / size as f64;
    let center = &span.start + (Tensor::arange(size, options).view([1, -1, 1]) + 0.5) * &scale;
    let at = Tensor::arange(input, options).view([1, 1, -1]);
    let distance = ((&at + 0.5 - center) / scale.clamp_min(1.0)).abs_();
    let weight = match interpolation {
        Interpolation::Bilinear => (1f64 - distance).clamp_min_(0.0),
        Interpolation::Bicubic => catmull_rom(&distance),
    };
    let weight = weight * at.ge_tensor(&span.first).logical_and(&at.lt_tensor(&span.end));
    let total = weight.sum_dim_intlist(2, true, Kind::Float);
    weight / total
}

/// Keys' cubic kernel with a = -0.5 of distances at least 0.
fn catmull_rom(x: &Tensor) -> Tensor {
    let near = ((x * 1.5 - 2.5) * x) * x + 1.0;
    let far = ((x * -0.5 + 2.5) * x - 4.0) * x + 2.0;
    near.where_self(&x.lt(1.0), &(far * x.lt(2.0)))
}

/// The blur along a side of `size` pixels for the deviation of each image, `[batch, 1, 1]`:
/// `[batch, size, size]`. For deviation 0 it is the identity.
pub(super) fn blur_matrix(sigma: &Tensor, size: i64, kernel: u32) -> Tensor {
    let options = (Kind::Float, sigma.device());
    let radius = i64::from(kernel / 2);
    let sigma = sigma.clamp_min(1e-3); // so narrow that nothing reaches the next pixel
    let gaussian = |distance: &Tensor| {
        let mut weight = (distance / &sigma).square_() * -0.5;
        weight.exp_() * distance.abs().le(radius as f64)
    };
    let total = gaussian(&Tensor::arange_start(-radius, radius + 1, options).view([1, 1, -1]))
        .sum_dim_intlist(2, true, Kind::Float);
    let to = Tensor::arange(size, options).view([1, -1, 1]);
    let from = Tensor::arange(size, options).view([1, 1, -1]);
    if size == 1 {
        return Tensor::ones([sigma.size()[0], 1, 1], options);
    }
    // A pixel counts at its own position and at its reflections beyond the borders: a whole number
    // of periods away, or mirrored first. The outermost pixels are their own mirror images.
    let last = size - 1;
    let inner = from.gt(0.0).logical_and(&from.lt(last as f64));
    let mut matrix = gaussian(&(&from - &to));
    let farthest = (radius + last) / (2 * last);
    for period in (-farthest..=farthest).filter(|&period| period != 0) {
        matrix += gaussian(&(&from - &to + (2 * last * period) as f64));
    }
    let farthest = radius / (2 * last);
    for period in -farthest..=farthest + 1 {
        matrix += gaussian(&((2 * last * period) as f64 - &from - &to)) * &inner;
    }
    matrix / total
}

/// Multiplies the columns of planes `[batch, 3, height, width]` by matrices `[batch, size, width]`.
pub(super) fn apply_columns(matrices: &Tensor, planes: &Tensor) -> Tensor {
    let size = planes.size();
    let (batch, height, width) = (size[0], size[2], size[3]);
    planes.reshape([batch, 3 * height, width]).bmm(&matrices.transpose(1, 2)).view([
        batch,
        3,
        height,
        matrices.size()[1],
    ])
}

/// Multiplies the rows of planes `[batch, 3, height, width]` by matrices `[batch, size, height]`.
pub(super) fn apply(matrices: &Tensor, planes: Tensor) -> Tensor {
    let size = planes.size();
    let (batch, height, width) = (size[0], size[2], size[3]);
    let rows = planes.permute([0, 2, 1, 3]).reshape([batch, height, 3 * width]);
    matrices.bmm(&rows).view([batch, -1, 3, width]).permute([0, 2, 1, 3]).contiguous()
}
