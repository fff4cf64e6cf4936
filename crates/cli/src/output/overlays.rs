//! Maps drawn as images, and over images.

use anyhow::{Context, Result};
use image::{DynamicImage, GrayImage, Rgb, RgbImage};
use portolan_evaluate::Area;
use portolan_tensor::{Device, Kind, Tensor};

use super::image_files::enlarged;

/// The color of the strongest attention, and of the outline of an object.
const BRIGHT: [f32; 3] = [255.0, 205.0, 60.0];
/// The color of pixels that have no class.
const NONE: Rgb<u8> = Rgb([255; 3]);

/// Each map of `[maps, rows, columns]` as a gray image. Values are from 0 to 1.
pub(crate) fn gray_images(maps: &Tensor) -> Result<Vec<RgbImage>> {
    let levels = maps.to_device(Device::Cpu).to_kind(Kind::Float) * 255.0;
    let levels = levels.round().to_kind(Kind::Uint8).contiguous();
    let (rows, columns) = (levels.size()[1] as u32, levels.size()[2] as u32);
    let drawn = |i| {
        let gray = GrayImage::from_raw(columns, rows, Vec::try_from(levels.get(i).view([-1]))?)
            .context("a map has another size than its grid")?;
        Ok(DynamicImage::ImageLuma8(gray).into_rgb8())
    };
    (0..levels.size()[0]).map(drawn).collect()
}

/// The darkened image, lit where the attention is strong.
pub(crate) fn glow(image: &RgbImage, attention: &RgbImage) -> RgbImage {
    over(image, attention, |pixel, light, channel| {
        let dark = 0.45 * pixel;
        dark + light * (BRIGHT[channel] - dark)
    })
}

/// The image inside the mask, darkened elsewhere.
pub(crate) fn lit(image: &RgbImage, mask: &RgbImage) -> RgbImage {
    over(image, mask, |pixel, light, _| pixel * (0.2 + 0.8 * light))
}

/// Blends an image with a map that is resized to its size. `mix` gets the pixel value, the map
/// value from 0 to 1 and the channel.
fn over(image: &RgbImage, map: &RgbImage, mix: impl Fn(f32, f32, usize) -> f32) -> RgbImage {
    let map = enlarged(map, image.width());
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let (pixel, light) = (image.get_pixel(x, y), f32::from(map.get_pixel(x, y)[0]) / 255.0);
        Rgb(std::array::from_fn(|c| mix(f32::from(pixel[c]), light, c).round() as u8))
    })
}

/// The image with the outline of a box of pixels, a hundredth of its width thick.
pub(crate) fn outlined(image: &RgbImage, area: &Area) -> RgbImage {
    let thick = i64::from(image.width().div_ceil(100).max(1));
    let color = Rgb(BRIGHT.map(|level| level as u8));
    let within = |span: &std::ops::Range<i64>, at: i64, inset: i64| {
        (span.start + inset..span.end - inset).contains(&at)
    };
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let inside = |inset| {
            within(&area.columns, i64::from(x), inset) && within(&area.rows, i64::from(y), inset)
        };
        if inside(0) && !inside(thick) { color } else { *image.get_pixel(x, y) }
    })
}

/// Each class of `[height, width]`, int64, in a color of its own (those of Pascal VOC's masks).
/// Pixels without a class are white.
///
/// # Errors
/// If the map has another shape.
pub(crate) fn class_colors(classes: &Tensor) -> Result<RgbImage> {
    let (height, width) = classes.size2()?;
    let values = Vec::<i64>::try_from(classes.contiguous().view([-1]))?;
    Ok(RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let class = values[(i64::from(y) * width + i64::from(x)) as usize];
        u64::try_from(class).map_or(NONE, class_color)
    }))
}

/// The three lowest bits of the class become the highest of red, green and blue, the next three the
/// next (`VOCcode/VOClabelcolormap.m` of the development kit).
fn class_color(class: u64) -> Rgb<u8> {
    let channel =
        |c: u64| (0..8u64).map(|i| ((class >> (3 * i + c)) & 1) << (7 - i)).sum::<u64>() as u8;
    Rgb([channel(0), channel(1), channel(2)])
}

/// A predicted and a true depth, `[height, width]`, on the scale of the true one: the nearest is
/// white, the farthest black. Pixels without a true depth are as the farthest.
///
/// # Errors
/// If the maps have another shape.
pub(crate) fn depth_grays(predicted: &Tensor, truth: &Tensor) -> Result<Vec<RgbImage>> {
    let known = truth.masked_select(&truth.gt(0.0));
    let (nearest, farthest) = if known.numel() == 0 {
        (0.0, 1.0)
    } else {
        (known.min().double_value(&[]), known.max().double_value(&[]))
    };
    let range = (farthest - nearest).max(1e-6);
    let shown = |depth: &Tensor| {
        let depth = depth.where_self(&truth.gt(0.0), &truth.full_like(farthest));
        ((farthest - depth) / range).clamp(0.0, 1.0)
    };
    gray_images(&Tensor::stack(&[shown(predicted), shown(truth)], 0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn classes_have_the_colors_of_pascal_voc() {
        let colors = [0u64, 1, 2, 15, 20].map(|class| class_color(class).0);
        assert_eq!(colors, [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128]]);
        let map = class_colors(&Tensor::from_slice(&[-1i64, 1]).view([1, 2])).unwrap();
        assert_eq!([map.get_pixel(0, 0).0, map.get_pixel(1, 0).0], [[255; 3], [128, 0, 0]]);
    }

    #[test]
    fn an_outline_lies_inside_of_its_box() {
        let image = RgbImage::new(12, 12);
        let drawn = outlined(&image, &Area { columns: 2..7, rows: 3..5 });
        let lit = |x, y| *drawn.get_pixel(x, y) != Rgb([0; 3]);
        assert!(lit(2, 3) && lit(6, 4) && lit(4, 4) && !lit(7, 4) && !lit(1, 3) && !lit(4, 5));
        let larger = outlined(&image, &Area { columns: 2..7, rows: 3..9 });
        assert_eq!(*larger.get_pixel(4, 5), Rgb([0; 3]));
    }

    #[test]
    fn the_nearest_pixel_is_white_and_the_farthest_black() {
        let truth = Tensor::from_slice(&[1f32, 3.0, 0.0]).view([1, 3]);
        let predicted = Tensor::from_slice(&[2f32, 9.0, 1.0]).view([1, 3]);
        let drawn = depth_grays(&predicted, &truth).unwrap();
        let row = |i: usize| drawn[i].pixels().map(|pixel| pixel[0]).collect::<Vec<u8>>();
        assert_eq!((row(0), row(1)), (vec![128, 0, 0], vec![255, 0, 0]));
    }
}
