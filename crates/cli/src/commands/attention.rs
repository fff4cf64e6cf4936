//! `portolan attention`: draws or scores the attention of the class token of a vision transformer.

use anyhow::Result;
use image::{DynamicImage, Rgb, RgbImage};
use portolan_augment::{ViewSpec, cpu};
use portolan_data::shapes::Shapes;
use portolan_data::{Options, Split};
use portolan_encoders::Vit;
use portolan_evaluate::{
    ATTENTION_MASS, attention_mask, best_head_jaccard, class_attention, images,
};
use portolan_random::{Purpose, stream};
use portolan_report::counted;
use portolan_tensor::{Device, Kind, Tensor, device, upload};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::args::DrawArgs;
use crate::config::RunConfig;
use crate::encoder_source::run_encoder;
use crate::output::image_files::{create_folder, read, save, sheet, view_of};
use crate::output::overlays::{glow, gray_images, lit};

/// Images per forward pass when scoring.
const BATCH: usize = 100;

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
    Ok(gray_images(&maps.get(0))?.iter().map(draw).collect())
}

/// Mean Jaccard indices of a vision transformer.
struct Score {
    best_head: f64,
    mean_of_heads: f64,
}

/// Prints how well attention matches the objects of `shapes`, before and after training.
fn score(vit: &Vit, config: &RunConfig, run: &Path, device: Device) -> Result<()> {
    let untrained = run_encoder::untrained_vit(run, config, device)?;
    let view = view_of(config)?;
    let count = match config.data.limit_test {
        0 => Options::default().test,
        limit => limit.min(Options::default().test),
    };
    let shapes = Shapes::new(Split::Test, count, config.data.size, Options::default().seed)?;
    let masks = masks(&shapes, count, &view)?;
    let of = |vit: &Vit| jaccards(vit, &shapes, &masks, &view, device);
    let (after, before) = (of(vit)?, of(&untrained)?);
    let heads = vit.config().heads;
    println!(
        "attention of {} on {} of shapes",
        config.encoder.name(),
        counted(count, "test image", "test images")
    );
    println!("Jaccard index of the true mask and the patches that hold 60 % of the attention\n");
    println!("{:<22} {:>9} {:>11} {:>12}", "", "trained", "untrained", "difference");
    let line = |name: &str, after: f64, before: f64| {
        println!("{name:<22} {after:>9.3} {before:>11.3} {:>+12.3}", after - before);
    };
    line(&format!("best of {heads} heads"), after.best_head, before.best_head);
    line("mean of the heads", after.mean_of_heads, before.mean_of_heads);
    println!("\nmasks cover {:.1} % of an image", 100.0 * share(&masks));
    Ok(())
}

/// The true masks after the evaluation crop, as booleans of shape `[n, size, size]`.
fn masks(shapes: &Shapes, count: usize, view: &ViewSpec) -> Result<Tensor> {
    let size = i64::from(view.size());
    let mut covered = Vec::with_capacity(count * (size * size) as usize);
    for index in 0..count {
        let mask = DynamicImage::ImageLuma8(shapes.render(index).mask).into_rgb8();
        let seen = cpu::preview(view, &mask, &mut stream(0, Purpose::View, &[]));
        covered.extend(seen.pixels().map(|pixel| pixel[0] >= 128));
    }
    Ok(Tensor::from_slice(&covered).view([count as i64, size, size]))
}

fn share(masks: &Tensor) -> f64 {
    masks.to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
}

fn jaccards(
    vit: &Vit,
    shapes: &Shapes,
    masks: &Tensor,
    view: &ViewSpec,
    device: Device,
) -> Result<Score> {
    let indices: Vec<usize> = (0..masks.size()[0] as usize).collect();
    let (mut best, mut mean) = (Vec::new(), Vec::new());
    for part in indices.chunks(BATCH) {
        let x = images(shapes, part, view)?.x;
        let maps = class_attention(vit, &upload(&x, device))?.to_device(Device::Cpu);
        let masks = masks.narrow(0, part[0] as i64, part.len() as i64);
        best.push(best_head_jaccard(&maps, &masks)?);
        let together = maps.mean_dim([1i64].as_slice(), true, Kind::Float);
        mean.push(best_head_jaccard(&together, &masks)?);
    }
    let over_images = |parts: &[Tensor]| Tensor::cat(parts, 0).mean(Kind::Double).double_value(&[]);
    Ok(Score { best_head: over_images(&best), mean_of_heads: over_images(&mean) })
}
