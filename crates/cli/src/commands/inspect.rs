//! `portolan inspect`: describes a run, an encoder or a data set.

use anyhow::Result;
use portolan_interchange::{LoadedEncoder, Preprocessing};
use portolan_report::counted;
use std::path::Path;
use std::process::ExitCode;

use crate::args::InspectArgs;
use crate::data::print_notes;
use crate::encoder_source::{print_load_summary, run_encoder};

/// Describes a run, an encoder or a data set.
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

/// Whether --data accepts the file. The authors of MoCo name their checkpoints `.pth.tar`.
fn is_images(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(".parquet")
        || name.ends_with(".tar") && !name.ends_with(".pth.tar")
        || portolan_data::is_image(path)
}

fn inspect_encoder(path: &Path) -> Result<()> {
    let found = LoadedEncoder::open(path, None)?;
    print_load_summary(&found, path);
    let Preprocessing { resize, size, interpolation, mean, std, grayscale } = found.preprocessing;
    let how = format!("{interpolation:?}").to_lowercase();
    let gray = if grayscale { ", in gray" } else { "" };
    println!("encoder    {}, {} tensors", found.config.name(), found.tensors.len());
    println!("images     short side to {resize} ({how}), center crop {size} × {size}{gray}");
    println!("normalized mean {mean:?}, standard deviation {std:?}");
    Ok(())
}

fn inspect_run(run: &Path) -> Result<()> {
    let config = run_encoder::config_of(run)?;
    println!(
        "run        {} with the recipe {}, seed {}",
        config.method, config.recipe, config.seed
    );
    println!("data       {}", config.data.source);
    println!(
        "training   {}, {} in batches of {}",
        config.encoder.name(),
        counted(config.training.epochs as usize, "epoch", "epochs"),
        config.training.batch_size
    );
    let Ok(report) = portolan_report::Report::read(run) else {
        let checkpoint = portolan_train::newest(run)?;
        println!("state      not finished; the newest checkpoint is {}", checkpoint.display());
        println!("           resume with: portolan pretrain --resume {}", run.display());
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
    let images = |n| counted(n, "image", "images");
    let data = portolan_data::open(what, &portolan_data::Options::default())?;
    println!("data       {}", data.name);
    println!("train      {}", images(data.train.len()));
    if let Some(more) = &data.unlabeled {
        println!("unlabeled  {}, for pretraining", images(more.len()));
    }
    println!(
        "test       {}",
        data.test.as_ref().map_or("none".to_owned(), |test| images(test.len()))
    );
    match data.classes.len() {
        0 => println!("labels     none"),
        n => println!(
            "labels     {}: {}",
            counted(n, "class", "classes"),
            data.classes[..n.min(10)].join(", ")
        ),
    }
    match data.train.image(0).and_then(|image| image.decode()) {
        Ok(image) => println!(
            "first      {}×{} px, {}",
            image.width(),
            image.height(),
            data.train.describe(0)
        ),
        Err(error) => {
            println!("first      cannot be read: {:#}", anyhow::Error::from(error));
        }
    }
    println!("checksum   {}", data.sha256);
    print_notes(&data.notes);
    Ok(())
}
