//! `portolan factors`: measures which generative factors of `shapes` the encoders of runs keep or
//! ignore.

use anyhow::{Result, ensure};
use portolan_data::shapes::Shapes;
use portolan_data::{Options, Source, Split};
use portolan_evaluate::{FactorImages, FactorTable, factor_table, features};
use portolan_report as report;
use portolan_tensor::{Device, Kind, io};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

use crate::args::FactorsArgs;
use crate::data::open_data;
use crate::encoder_source::{self, run_encoder};
use crate::run::setup::set_up;

/// The factor tables of one run.
#[derive(Serialize)]
struct RunTables {
    run: String,
    method: String,
    representation: FactorTable,
    /// The same for the outputs of the projection head, if there is one.
    head: Option<FactorTable>,
}

pub(crate) fn factors(args: &FactorsArgs) -> Result<ExitCode> {
    let device = set_up(&args.device.name, args.threads.count)?.device;
    let mut all = Vec::new();
    for run in &args.runs {
        let tables = tables_of(run, device)?;
        print(&tables);
        all.push(tables);
    }
    io::write_atomic(
        &args.out.with_extension("json"),
        serde_json::to_string_pretty(&all)?.as_bytes(),
    )?;
    let columns: Vec<report::FactorColumn> = all.iter().flat_map(columns).collect();
    let page = args.out.with_extension("html");
    report::write_factors(&columns, &page)?;
    println!("{}", page.display());
    Ok(ExitCode::SUCCESS)
}

fn tables_of(run: &Path, device: Device) -> Result<RunTables> {
    let config = run_encoder::config_of(run)?;
    ensure!(
        config.data.source == "shapes",
        "{} was trained on {}, which has no known factors; `factors` needs a run on shapes",
        run.display(),
        config.data.source
    );
    let data = open_data(&config.data)?;
    let size = config.data.size;
    let split = |split, images| {
        let shapes = Shapes::new(split, images, size, Options::default().seed)?;
        anyhow::Ok(shapes.with_palette(config.data.palette))
    };
    let train = split(Split::Train, data.train.len())?;
    let test = split(Split::Test, data.test.as_ref().map_or(0, |test| test.len()))?;
    let method = run_encoder::load_method(run, &config, device)?;
    let view = encoder_source::view_of(&run_encoder::preprocessing(&config)?);
    let precision = config.training.precision;
    let embed = |source: &dyn Source| {
        anyhow::Ok(features(method.encoder(), source, &view, device, precision)?.x)
    };
    let images = FactorImages::embed(&train, &test, size, embed)?;
    let project = |x: &portolan_tensor::Tensor| {
        let z = method.project(&x.to_device(device))?;
        Some(z.to_device(Device::Cpu).to_kind(Kind::Float))
    };
    let head = images.map(project);
    Ok(RunTables {
        run: run.display().to_string(),
        method: config.method.clone(),
        representation: factor_table(&images, &train, &test)?,
        head: head.map(|images| factor_table(&images, &train, &test)).transpose()?,
    })
}

fn print(tables: &RunTables) {
    let RunTables { run, method, representation, head } = tables;
    println!("{method}, {run}");
    println!(
        "{:<22} {:>9} {:>16} {:>8} {:>14} {:>8}",
        "factor", "", "representation", "moved", "head", "moved"
    );
    let moved = |moved: Option<f64>| moved.map_or("–".to_owned(), |moved| format!("{moved:.2}"));
    for (i, row) in representation.rows.iter().enumerate() {
        let of_head = head.as_ref().map(|head| &head.rows[i]);
        println!(
            "{:<22} {:>9} {:>16.3} {:>8} {:>14} {:>8}",
            row.name,
            row.measure,
            row.read,
            moved(row.moved),
            of_head.map_or("–".to_owned(), |row| format!("{:.3}", row.read)),
            moved(of_head.and_then(|row| row.moved)),
        );
    }
    println!(
        "disentanglement {:.3}, completeness {:.3}\n",
        representation.disentanglement, representation.completeness
    );
}

/// The columns of a run on the page.
fn columns(tables: &RunTables) -> Vec<report::FactorColumn> {
    let name = Path::new(&tables.run)
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let column = |layer: &str, table: &FactorTable| report::FactorColumn {
        title: format!("{name}, {layer}"),
        rows: table
            .rows
            .iter()
            .map(|row| report::FactorCell {
                factor: row.name.to_owned(),
                measure: row.measure.to_owned(),
                read: row.read,
                moved: row.moved,
            })
            .collect(),
        disentanglement: table.disentanglement,
        completeness: table.completeness,
    };
    let head = tables.head.as_ref().map(|table| column("head", table));
    std::iter::once(column("encoder", &tables.representation)).chain(head).collect()
}
