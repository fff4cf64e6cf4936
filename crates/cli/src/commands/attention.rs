//! `portolan attention`: draws or scores the attention of the class token of a vision transformer.

mod score;

use anyhow::{Context, Result};
use image::{DynamicImage, Rgb, RgbImage};
use portolan_encoders::Vit;
use portolan_evaluate::{ATTENTION_MASS, attention_mask, class_attention};
use portolan_tensor::{Device, Kind, Tensor, device};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::score::score;
use crate::args::DrawArgs;
use crate::config::RunConfig;
use crate::encoder_source::run_encoder;
use crate::output::image_files::{create_folder, enlarged, read, save, sheet, view_of};

/// The color of the strongest attention.
const BRIGHT: [f32; 3] = [255.0, 205.0, 60.0];

/// Draws the attention maps of images, or with --score compares them with the masks of `shapes`.
pub(crate) fn attention(args: &DrawArgs) -> Result<ExitCode> {
    let device = device::choose(&args.device.name)?;
    let config = run_encoder::config_of(&args.run)?;
    let vit = run_encoder::load_vit(&args.run, &config, device)?;
    match &args.out {
        Some(out) => draw_images(&vit, &config, &args.images, out, device)?,
        None => score(&vit, &config, &args.run, device)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn draw_images(
    vit: &Vit,
    config: &RunConfig,
    paths: &[PathBuf],
    out: &Path,
    device: Device,
) -> Result<()> {
    let inputs = read(paths, &view_of(config)?, device)?;
    create_folder(out)?;
    for input in &inputs {
        let maps = with_mean(&class_attention(vit, &input.x)?);
        let kept = attention_mask(&maps, ATTENTION_MASS);
        let heads = maps.size()[1];
        let strongest = maps.amax([-2i64, -1].as_slice(), true).clamp_min(1e-12);
        let glowing = row(&(&maps / strongest), |light| glow(&input.image, light))?;
        let cut_out = row(&kept, |light| lit(&input.image, light))?;
        let above = std::iter::once(input.image.clone()).chain(glowing).collect();
        // The cell below the input image stays empty.
        let nothing =
            RgbImage::from_pixel(input.image.width(), input.image.height(), Rgb([255; 3]));
        let below = std::iter::once(nothing).chain(cut_out).collect();
        save(&sheet(&[above, below]), &out.join(format!("{}-attention.png", input.name)))?;
        if std::ptr::eq(input, &inputs[0]) {
            println!("  the image; heads 1 to {}; their mean", heads - 1);
            println!("  top: attention; bottom: the fewest patches that hold 60 % of it");
        }
    }
    Ok(())
}

/// Appends the mean over heads to maps of shape `[batch, heads, rows, columns]`.
fn with_mean(maps: &Tensor) -> Tensor {
    Tensor::cat(&[maps, &maps.mean_dim([1i64].as_slice(), true, Kind::Float)], 1)
}

/// Draws each map of `[1, maps, rows, columns]` with `draw`, which gets it as a gray image. Values
/// are from 0 to 1.
fn row(maps: &Tensor, draw: impl Fn(&RgbImage) -> RgbImage) -> Result<Vec<RgbImage>> {
    let maps = maps.to_device(Device::Cpu).to_kind(Kind::Float) * 255.0;
    let (rows, columns) = (maps.size()[2] as u32, maps.size()[3] as u32);
    let drawn = |i| {
        let levels: Vec<u8> =
            Vec::try_from(maps.get(0).get(i).round().to_kind(Kind::Uint8).contiguous().view([-1]))?;
        let gray = image::GrayImage::from_raw(columns, rows, levels)
            .context("a map has another size than its grid")?;
        Ok(draw(&DynamicImage::ImageLuma8(gray).into_rgb8()))
    };
    (0..maps.size()[1]).map(drawn).collect()
}

/// The darkened image, lit where the attention is strong.
fn glow(image: &RgbImage, attention: &RgbImage) -> RgbImage {
    over(image, attention, |pixel, light, channel| {
        let dark = 0.45 * pixel;
        dark + light * (BRIGHT[channel] - dark)
    })
}

/// The image inside the mask, darkened elsewhere.
fn lit(image: &RgbImage, mask: &RgbImage) -> RgbImage {
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
