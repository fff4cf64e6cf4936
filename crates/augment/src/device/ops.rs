//! Every operation on a batch of planes: `[batch, 3, height, width]`, float32, levels from 0 to
//! 255. Random numbers come as `[batch, 1, 1, 1]`, one for each image. Formulas are those of
//! [`crate::ops`].

use portolan_tensor::{Kind, Tensor, upload};

use super::resample::{Span, apply, apply_columns, blur_matrix, weights};
use crate::ops::{Interpolation, Region, middle_span};

/// Images `[batch, height, width, 3]` of bytes as planes.
pub fn to_planes(images: &Tensor) -> Tensor {
    images.permute([0, 3, 1, 2]).contiguous().to_kind(Kind::Float)
}

/// Resizes a region of each image to a square of `size` pixels, columns first. Levels are rounded
/// after each direction, as in the CPU engine.
pub fn resized_crop(
    planes: &Tensor,
    regions: &[Region],
    size: i64,
    interpolation: Interpolation,
) -> Tensor {
    let (height, width) = sides(planes);
    let sides = |side: fn(&Region) -> u32| regions.iter().map(move |region| side(region) as f32);
    let numbers: Vec<f32> = sides(|r| r.left)
        .chain(sides(|r| r.width))
        .chain(sides(|r| r.top))
        .chain(sides(|r| r.height))
        .collect();
    let table = upload(&Tensor::from_slice(&numbers), planes.device());
    let table = table.view([4, regions.len() as i64, 1, 1]);
    let columns = Span::within(table.get(0), table.get(1));
    let rows = Span::within(table.get(2), table.get(3));
    let columns = weights(&columns, width, size, interpolation);
    let rows = weights(&rows, height, size, interpolation);
    whole_levels(apply(&rows, whole_levels(apply_columns(&columns, planes))))
}

/// Resizes the short side to `short` pixels and keeps the middle `size` × `size`, as
/// [`center_crop`](crate::ops::center_crop).
pub fn center_crop(planes: &Tensor, short: i64, size: i64, interpolation: Interpolation) -> Tensor {
    let (height, width) = sides(planes);
    let shortest = height.min(width) as u32;
    let matrix = |side: i64| {
        let (start, length) = middle_span(side as u32, shortest, short as u32, size as usize);
        let number = |value: f64| Tensor::full([1, 1, 1], value, (Kind::Float, planes.device()));
        let span = Span {
            start: number(start),
            length: number(length),
            first: number(0.0),
            end: number(side as f64),
        };
        weights(&span, side, size, interpolation).expand([planes.size()[0], size, side], false)
    };
    whole_levels(apply(&matrix(height), whole_levels(apply_columns(&matrix(width), planes))))
}

/// Exchanges left and right where `applied` is 1.
pub fn horizontal_flip(planes: &Tensor, applied: &Tensor) -> Tensor {
    planes.flip([3]).where_self(&applied.gt(0.5), planes)
}

/// Multiplies every value by its image's factor.
pub fn brightness(planes: &Tensor, factor: &Tensor) -> Tensor {
    (planes * factor).clamp_(0.0, 255.0)
}

/// Moves every value away from its image's mean luminance (factors above 1) or towards it (below
/// 1).
pub fn contrast(planes: &Tensor, factor: &Tensor) -> Tensor {
    let mean = luminance(planes).mean_dim([2i64, 3].as_slice(), true, Kind::Float);
    mean.lerp_tensor(planes, factor).clamp_(0.0, 255.0)
}

/// Moves every value away from its pixel's luminance (factors above 1) or towards it (below 1).
pub fn saturation(planes: &Tensor, factor: &Tensor) -> Tensor {
    luminance(planes).lerp_tensor(planes, factor).clamp_(0.0, 255.0)
}

/// Turns every color around the color circle, in PIL's steps as [`hue`](crate::ops::hue). Images of
/// 0 turns stay as they are.
pub fn hue(planes: &Tensor, turns: &Tensor) -> Tensor {
    let shift = (turns * 255.0).trunc_().remainder_(256.0);
    let (most, least) =
        (planes.amax([1i64].as_slice(), true), planes.amin([1i64].as_slice(), true));
    let chroma = &most - least;
    let scale = chroma.clamp_min(1e-6).reciprocal_();
    let [r, g, b] = channels(planes);
    let from_red = (&g - &b) * &scale;
    let from_green = (&b - &r) * &scale + 2.0;
    let from_blue = (&r - &g) * scale + 4.0;
    let hue = from_red
        .where_self(&r.eq_tensor(&most), &from_green.where_self(&g.eq_tensor(&most), &from_blue));
    // -1 to 5 sixths of the circle become 0 to 6, then PIL's 256 steps, shifted, and back.
    let hue = &hue + hue.lt(0.0) * 6.0;
    let step = (hue * (255.0 / 6.0)).trunc_() + shift;
    let hue = (&step - step.ge(256.0) * 256.0) * (6.0 / 255.0);
    let channel = Tensor::arange_start_step(5.0, 0.0, -2.0, (Kind::Float, planes.device()));
    let away = hue + channel.view([1, 3, 1, 1]);
    let away = &away - away.ge(6.0) * 6.0;
    let turned = most - chroma * away.minimum(&(4.0 - &away)).clamp_(0.0, 1.0);
    turned.where_self(&turns.not_equal(0.0), planes)
}

/// Replaces every pixel by its luminance where `applied` is 1.
pub fn grayscale(planes: &Tensor, applied: &Tensor) -> Tensor {
    luminance(planes).where_self(&applied.gt(0.5), planes)
}

/// Blurs each image by a Gaussian of its own deviation `sigma`, cut off beyond `kernel` pixels and
/// reflected at the borders. Images of deviation 0 stay as they are.
pub fn gaussian_blur(planes: &Tensor, sigma: &Tensor, kernel: u32) -> Tensor {
    let (height, width) = sides(planes);
    let sigma = sigma.view([-1, 1, 1]);
    let columns = blur_matrix(&sigma, width, kernel);
    if height == width {
        return apply(&columns, apply_columns(&columns, planes));
    }
    apply(&blur_matrix(&sigma, height, kernel), apply_columns(&columns, planes))
}

/// Inverts every value of `threshold` and above where `applied` is 1.
pub fn solarize(planes: &Tensor, applied: &Tensor, threshold: u8) -> Tensor {
    let inverted = planes.ge(f64::from(threshold)).logical_and(&applied.gt(0.5));
    (255f64 - planes).where_self(&inverted, planes)
}

/// Turns levels into `(level / 255 - mean) / std`, channel by channel.
pub fn normalize(planes: Tensor, mean: [f32; 3], std: [f32; 3]) -> Tensor {
    for (channel, (mean, std)) in mean.into_iter().zip(std).enumerate() {
        let mut plane = planes.select(1, channel as i64);
        plane *= 1.0 / (255.0 * f64::from(std));
        plane -= f64::from(mean) / f64::from(std);
    }
    planes
}

/// ITU-R 601 luma, `[batch, 1, height, width]`.
fn luminance(planes: &Tensor) -> Tensor {
    let [r, g, b] = channels(planes);
    r * 0.299 + g * 0.587 + b * 0.114
}

fn channels(planes: &Tensor) -> [Tensor; 3] {
    [0, 1, 2].map(|channel| planes.narrow(1, channel, 1))
}

fn sides(planes: &Tensor) -> (i64, i64) {
    let size = planes.size();
    (size[2], size[3])
}

fn whole_levels(mut planes: Tensor) -> Tensor {
    planes.round_().clamp_(0.0, 255.0)
}
