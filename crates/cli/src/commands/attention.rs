//! `portolan attention`: draws or scores the attention of the class token of a vision transformer.

mod score;

use anyhow::{Context, Result, bail};
use image::{Rgb, RgbImage};
use portolan_augment::ViewSpec;
use portolan_encoders::Vit;
use portolan_evaluate::{ATTENTION_MASS, attention_mask, class_attention};
use portolan_tensor::{Device, Kind, Tensor};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::score::score;
use crate::args::AttentionArgs;
use crate::encoder_source::EncoderSource;
use crate::output::image_files::{create_folder, read, save, sheet};
use crate::output::overlays::{glow, gray_images, lit};
use crate::run::setup::set_up;

/// Draws the attention maps of images, or with --score compares them with the masks of `shapes`.
pub(crate) fn attention(args: &AttentionArgs) -> Result<ExitCode> {
    let device = set_up(&args.device.name, args.threads.count)?.device;
    let source = EncoderSource::open(&args.encoder.of, args.encoder.name.as_deref())?;
    let encoder = source.build(&source.config, device)?;
    let Some(vit) = encoder.as_vit() else {
        bail!(
            "{} is {}, but only a vision transformer has attention; give a run with one, such as \
             --encoder vit_tiny_patch4_32",
            args.encoder.of.display(),
            source.config.name()
        )
    };
    let view = source.eval_view();
    source.config.validate_size(i64::from(view.size())).context("in the evaluation")?;
    match (&args.out, args.score) {
        (Some(out), false) => draw_images(vit, &view, &args.images, out, device)?,
        (out, _) => score(vit, &source, out.as_deref(), device)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn draw_images(
    vit: &Vit,
    view: &ViewSpec,
    paths: &[PathBuf],
    out: &Path,
    device: Device,
) -> Result<()> {
    let inputs = read(paths, view, device)?;
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
    Ok(gray_images(&maps.get(0))?.iter().map(draw).collect())
}
