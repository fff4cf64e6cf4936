//! What one does with a trained encoder: `embed`, `export`, `inspect`.

use anyhow::{Context, Result, bail};
use portolan_data::{Dataset, Source};
use portolan_evaluate::{Features, features};
use portolan_interchange::{Found, Shown};
use portolan_tensor::device;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::args::{EmbedArgs, ExportArgs, InspectArgs};
use crate::run::tell_notes;
use crate::trained::{Trained, tell};
use crate::{embeddings, encoder, hub};

/// The split of this name, with the images in no class folder that are trained on too.
///
/// # Errors
/// When the data has none.
pub(crate) fn split_of(data: &Dataset, name: &str) -> Result<Arc<dyn Source>> {
    match name {
        "train" => Ok(data.pretraining()),
        "test" => data.test.clone().with_context(|| format!("{} has no test split", data.name)),
        other => bail!("there is no split `{other}`; choose train or test"),
    }
}

/// `portolan embed`: the features of every image, in a file.
pub(crate) fn embed(args: &EmbedArgs) -> Result<ExitCode> {
    let form = embeddings::Form::of(&args.out)?;
    let device = device::choose(&args.device)?;
    let trained = Trained::open(&args.of, args.encoder.as_deref())?;
    let data = trained.data(args.data.as_ref())?;
    tell_notes(&data.notes);
    let source = split_of(&data, &args.split)?;
    let encoder = trained.build(&trained.config, device)?;
    let features = features(&*encoder, &*source, &trained.eval_view(), device, trained.precision)?;
    let images = embeddings::Images::of(&*source, &features.ids);
    form.write(&args.out, &features.x, &images)?;
    let [n, width] = features.x.size()[..] else { bail!("the features are no matrix") };
    println!("{n} images, {width} features each: {}", args.out.display());
    warn_of_skipped(&features);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn warn_of_skipped(features: &Features) {
    if let Some(first) = features.skipped.first() {
        eprintln!(
            "{} images could not be read and were left out, the first: {first}",
            features.skipped.len()
        );
    }
}

/// `portolan export`: the encoder, with torchvision's or timm's names: a file, or a folder as model hubs have it.
pub(crate) fn export(args: &ExportArgs) -> Result<ExitCode> {
    let config = encoder::config_of(&args.run)?;
    let encoder = encoder::load(&args.run, &config, portolan_tensor::Device::Cpu)?;
    match args.out.extension().is_some_and(|ending| ending == "safetensors") {
        true => encoder::write(&*encoder, &config, &args.out)?,
        false => hub::write(&*encoder, &config, &args.run, &args.out)?,
    }
    println!("{} ({} features): {}", config.encoder.name(), encoder.width(), args.out.display());
    Ok(ExitCode::SUCCESS)
}

/// `portolan inspect`: a run or a data set in a few lines.
pub(crate) fn inspect(args: &InspectArgs) -> Result<ExitCode> {
    let path = Path::new(&args.what);
    if path.join("config.toml").exists() {
        inspect_run(path)?;
    } else if path.join("config.json").exists() || path.is_file() && !is_images(path) {
        inspect_encoder(path)?;
    } else {
        inspect_data(&args.what)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a file is one that --data takes. MoCo's authors call their checkpoints `.pth.tar`.
fn is_images(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(".parquet")
        || name.ends_with(".tar") && !name.ends_with(".pth.tar")
        || portolan_data::is_image(path)
}

fn inspect_encoder(path: &Path) -> Result<()> {
    let found = Found::open(path, None)?;
    tell(&found, path);
    let Shown { resize, size, interpolation, mean, std, grayscale } = found.shown;
    let how = format!("{interpolation:?}").to_lowercase();
    let gray = if grayscale { ", in gray" } else { "" };
    println!("encoder    {}, {} tensors", found.encoder.name(), found.tensors.len());
    println!("images     short side to {resize} ({how}), middle {size} × {size}{gray}");
    println!("normalized mean {mean:?}, deviation {std:?}");
    Ok(())
}

fn inspect_run(run: &Path) -> Result<()> {
    let config = encoder::config_of(run)?;
    println!("run        {} by the recipe {}, seed {}", config.method, config.recipe, config.seed);
    println!("data       {}", config.data.source);
    println!(
        "training   {}, {} epochs in batches of {}",
        config.encoder.name(),
        config.training.epochs,
        config.training.batch_size
    );
    let Ok(report) = portolan_report::Report::read(run) else {
        let checkpoint = portolan_train::newest(run)?;
        println!("state      not finished; the newest checkpoint is {}", checkpoint.display());
        println!("           go on with: portolan pretrain --resume {}", run.display());
        return Ok(());
    };
    println!("state      finished {}, {:.0} s of training", report.finished, report.seconds);
    if let Some(knn) = &report.knn {
        println!(
            "kNN        {:.1} % (untrained {:.1} %)",
            100.0 * knn.top1,
            100.0 * knn.random_init_top1
        );
    }
    if let Some(probe) = &report.linear_probe {
        println!(
            "probe      {:.1} % (untrained {:.1} %)",
            100.0 * probe.top1,
            100.0 * probe.random_init_top1
        );
    }
    println!("report     {}", run.join("report.html").display());
    Ok(())
}

fn inspect_data(what: &str) -> Result<()> {
    let data = portolan_data::open(what, &portolan_data::Options::default())?;
    println!("data       {}", data.name);
    println!("train      {} images", data.train.len());
    if let Some(more) = &data.unlabeled {
        println!("unlabeled {} images, for pretraining", more.len());
    }
    println!(
        "test       {}",
        data.test.as_ref().map_or("none".to_owned(), |test| format!("{} images", test.len()))
    );
    match data.classes.len() {
        0 => println!("labels     none"),
        n => println!("labels     {n} classes: {}", data.classes[..n.min(10)].join(", ")),
    }
    match data.train.image(0).and_then(|image| image.decode()) {
        Ok(image) => println!(
            "first      {}×{} px, {}",
            image.width(),
            image.height(),
            data.train.describe(0)
        ),
        Err(error) => println!("first      cannot be read: {:#}", anyhow::Error::from(error)),
    }
    println!("checksum   {}", data.sha256);
    tell_notes(&data.notes);
    Ok(())
}
