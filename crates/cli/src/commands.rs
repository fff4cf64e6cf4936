//! What one does with a finished run: `embed`, `export`, `inspect`.

use anyhow::{Context, Result, bail};
use portolan_data::{Dataset, Source};
use portolan_evaluate::{Features, features};
use portolan_tensor::device;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::args::{EmbedArgs, ExportArgs, InspectArgs};
use crate::config::RunConfig;
use crate::embeddings;
use crate::run::{open_data, plain_view};
use crate::{encoder, hub};

/// The run's settings and the data to look at: `--data`, all of it, or the run's own.
///
/// Images are normalised as those the encoder was trained on, whatever they are.
///
/// # Errors
/// When there is no such run, or its data cannot be opened.
pub(crate) fn open(run: &Path, data: Option<&String>) -> Result<(RunConfig, Dataset)> {
    let mut config = encoder::config_of(run)?;
    let normalisation = config.normalisation();
    if let Some(data) = data {
        config.data.source.clone_from(data);
        (config.data.limit, config.data.limit_test) = (0, 0);
    }
    let mut data = open_data(&config.data)?;
    if let Some((mean, std)) = normalisation {
        (data.mean, data.std) = (mean, std);
    }
    Ok((config, data))
}

/// The split of this name.
///
/// # Errors
/// When the data has none.
pub(crate) fn split_of(data: &Dataset, name: &str) -> Result<Arc<dyn Source>> {
    match name {
        "train" => Ok(Arc::clone(&data.train)),
        "test" => data.test.clone().with_context(|| format!("{} has no test split", data.name)),
        other => bail!("there is no split `{other}`; choose train or test"),
    }
}

/// `portolan embed`: the features of every image, in a file.
pub(crate) fn embed(args: &EmbedArgs) -> Result<ExitCode> {
    let form = embeddings::Form::of(&args.out)?;
    let device = device::choose(&args.device)?;
    let (config, data) = open(&args.run, args.data.as_ref())?;
    let source = split_of(&data, &args.split)?;
    let encoder = encoder::load(&args.run, &config, device)?;
    let view = plain_view(&config, &data);
    let precision = config.training.precision;
    let features = features(&*encoder, &*source, &view, device, precision)?;
    let names: Vec<String> = features.ids.iter().map(|&id| source.describe(id)).collect();
    form.write(&args.out, &features, &names)?;
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
    match path.join("config.toml").exists() {
        true => inspect_run(path)?,
        false => inspect_data(&args.what)?,
    }
    Ok(ExitCode::SUCCESS)
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
    println!(
        "test       {}",
        data.test.as_ref().map_or("none".to_owned(), |test| format!("{} images", test.len()))
    );
    match data.classes.len() {
        0 => println!("labels     none"),
        n => println!("labels     {n} classes: {}", data.classes[..n.min(10)].join(", ")),
    }
    match data.train.picture(0).and_then(|picture| picture.decode()) {
        Ok(image) => println!(
            "first      {}×{} px, {}",
            image.width(),
            image.height(),
            data.train.describe(0)
        ),
        Err(error) => println!("first      cannot be read: {error:#}"),
    }
    println!("checksum   {}", data.sha256);
    Ok(())
}
