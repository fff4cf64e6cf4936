//! `portolan invariance`: measures what changes of an image do to the features of a run, before and
//! after the projection head.

use anyhow::{Context, Result};
use portolan_data::{Source, subset};
use portolan_evaluate::{ChangedImages, InvarianceRow, features, invariance as rows_of};
use portolan_report::counted;
use portolan_tensor::{Device, Kind, Tensor, io};
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Arc;

use crate::args::InvarianceArgs;
use crate::data::open_data;
use crate::encoder_source::{self, run_encoder};
use crate::run::setup::set_up;

/// The file of numbers in the folder of the run.
const FILE: &str = "invariance.json";

#[derive(Serialize)]
struct Rows {
    /// Images of the test split.
    images: usize,
    features: Vec<InvarianceRow>,
    /// The same for the outputs of the projection head, if there is one.
    head: Option<Vec<InvarianceRow>>,
}

pub(crate) fn invariance(args: &InvarianceArgs) -> Result<ExitCode> {
    let device = set_up(&args.device.name, args.threads.count)?.device;
    let config = run_encoder::config_of(&args.run)?;
    let data = open_data(&config.data)?;
    let test = data.test.context("the data of the run has no test split, which is scored on")?;
    let splits = [data.train, test].map(|split| subset(split, args.images));
    let method = run_encoder::load_method(&args.run, &config, device)?;
    let view = encoder_source::view_of(&run_encoder::preprocessing(&config)?);
    let embed = |source: &dyn Source| {
        let precision = config.training.precision;
        anyhow::Ok(features(method.encoder(), source, &view, device, precision)?.x)
    };
    let images = ChangedImages::embed(&splits, embed)?;
    let head = images.map(|x: &Tensor| {
        let z = method.project(&x.to_device(device))?;
        Some(z.to_device(Device::Cpu).to_kind(Kind::Float))
    });
    let rows = Rows {
        images: splits[1].len(),
        features: rows_of(&images)?,
        head: head.map(|images| rows_of(&images)).transpose()?,
    };
    print(&rows, &config.method, &splits[0]);
    let path = args.out.clone().unwrap_or_else(|| args.run.join(FILE));
    io::write_atomic(&path, serde_json::to_string_pretty(&rows)?.as_bytes())?;
    println!("the same numbers: {}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn print(rows: &Rows, method: &str, train: &Arc<dyn Source>) {
    println!("{method}, on {}", counted(rows.images, "test image", "test images"));
    println!("moved: how far the change moves features, relative to the distance between images");
    println!(
        "read:  how often a linear classifier, fitted to {}, sees the change\n",
        counted(train.len(), "training image", "training images")
    );
    println!("{:<26} {:>8} {:>8} {:>12} {:>8}", "", "features", "", "head", "");
    println!("{:<26} {:>8} {:>8} {:>12} {:>8}", "change", "moved", "read", "moved", "read");
    for (i, row) in rows.features.iter().enumerate() {
        let read = |row: &InvarianceRow| format!("{:.1} %", 100.0 * row.read);
        print!("{:<26} {:>8.3} {:>8}", row.change, row.moved, read(row));
        if let Some(head) = rows.head.as_ref().and_then(|head| head.get(i)) {
            print!(" {:>12.3} {:>8}", head.moved, read(head));
        }
        println!();
    }
}
