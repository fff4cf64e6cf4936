//! Scores of attention maps and patch tokens on the test images of `shapes`.

use anyhow::{Context, Result};
use image::DynamicImage;
use portolan_augment::{ViewSpec, cpu};
use portolan_data::shapes::Shapes;
use portolan_data::{Options, Split};
use portolan_encoders::Vit;
use portolan_evaluate::{
    OUTLIER, PatchNorms, best_head_jaccard, class_attention, images, patch_lengths,
};
use portolan_random::{Purpose, stream};
use portolan_report::counted;
use portolan_tensor::{Device, Kind, Tensor, io, upload};
use serde::Serialize;
use std::path::Path;

use crate::encoder_source::EncoderSource;

/// Images per forward pass.
const BATCH: usize = 100;
/// The file of scores in the folder of the run.
const FILE: &str = "attention.json";

/// The scores of a vision transformer before and after training.
#[derive(Serialize)]
struct Scores {
    images: usize,
    registers: i64,
    trained: Score,
    untrained: Score,
}

/// The scores of a vision transformer.
#[derive(Serialize)]
struct Score {
    /// The mean Jaccard index of each image's best head.
    best_head: f64,
    /// The mean Jaccard index of the mean over heads.
    mean_of_heads: f64,
    patch_norms: PatchNorms,
}

/// Prints how well attention matches the objects of `shapes`, and whether patch tokens have
/// outliers, before and after training. Writes the same
/// to a file.
pub(super) fn score(
    vit: &Vit,
    source: &EncoderSource,
    out: Option<&Path>,
    device: Device,
) -> Result<()> {
    let before = source.untrained(device)?;
    let untrained = before.as_vit().context("the untrained encoder is no vision transformer")?;
    let (view, data) = (source.eval_view(), source.own_data("shapes"));
    let images = match data.limit_test {
        0 => Options::default().test,
        limit => limit.min(Options::default().test),
    };
    let shapes = Shapes::new(Split::Test, images, data.size, Options::default().seed)?
        .with_palette(data.palette);
    let masks = masks(&shapes, images, &view)?;
    let of = |vit: &Vit| of_network(vit, &shapes, &masks, &view, device);
    let scores = Scores {
        images,
        registers: vit.config().registers,
        trained: of(vit)?,
        untrained: of(untrained)?,
    };
    print(&scores, &source.config.name(), vit.config().heads);
    println!("masks cover {:.1} % of an image", 100.0 * share(&masks));
    let path = out.map_or_else(|| source.output_path(FILE), Path::to_owned);
    io::write_atomic(&path, serde_json::to_string_pretty(&scores)?.as_bytes())?;
    println!("the same numbers: {}", path.display());
    Ok(())
}

fn print(scores: &Scores, encoder: &str, heads: i64) {
    println!(
        "attention of {encoder} with {} on {} of shapes",
        counted(scores.registers as usize, "register", "registers"),
        counted(scores.images, "test image", "test images")
    );
    println!("Jaccard index of the true mask and the patches that hold 60 % of the attention\n");
    let line = |name: &str, of: fn(&Score) -> f64| {
        let (after, before) = (of(&scores.trained), of(&scores.untrained));
        println!("{name:<29} {after:>9.3} {before:>11.3} {:>+12.3}", after - before);
    };
    println!("{:<29} {:>9} {:>11} {:>12}", "", "trained", "untrained", "difference");
    line(&format!("best of {heads} heads"), |score| score.best_head);
    line("mean of the heads", |score| score.mean_of_heads);
    println!("\nlengths of patch tokens before the last norm\n");
    line(&format!("longer than {OUTLIER} medians, in %"), |score| {
        100.0 * score.patch_norms.outliers
    });
    line("the longest, in medians", |score| score.patch_norms.largest);
    line("median", |score| score.patch_norms.median);
    println!();
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

fn of_network(
    vit: &Vit,
    shapes: &Shapes,
    masks: &Tensor,
    view: &ViewSpec,
    device: Device,
) -> Result<Score> {
    let indices: Vec<usize> = (0..masks.size()[0] as usize).collect();
    let (mut best, mut mean, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for part in indices.chunks(BATCH) {
        let x = upload(&images(shapes, part, view)?.x, device);
        lengths.push(patch_lengths(vit, &x)?);
        let maps = class_attention(vit, &x)?.to_device(Device::Cpu);
        let masks = masks.narrow(0, part[0] as i64, part.len() as i64);
        best.push(best_head_jaccard(&maps, &masks)?);
        let together = maps.mean_dim([1i64].as_slice(), true, Kind::Float);
        mean.push(best_head_jaccard(&together, &masks)?);
    }
    let over_images = |parts: &[Tensor]| Tensor::cat(parts, 0).mean(Kind::Double).double_value(&[]);
    Ok(Score {
        best_head: over_images(&best),
        mean_of_heads: over_images(&mean),
        patch_norms: PatchNorms::of(&Tensor::cat(&lengths, 0))?,
    })
}
