//! `portolan pack`: re-encodes a data set at a smaller size.

use anyhow::{Result, ensure};
use indicatif::ProgressBar;
use portolan_data::{Options, open};
use portolan_report::counted;
use std::process::ExitCode;

use crate::args::PackArgs;
use crate::data::print_notes;
use crate::data::split_of;

pub(crate) fn pack(args: &PackArgs) -> Result<ExitCode> {
    ensure!(
        args.out.extension().is_some_and(|ending| ending == "parquet"),
        "{} does not end in .parquet, the only supported format",
        args.out.display()
    );
    let data = open(&args.data, &Options::default())?;
    print_notes(&data.notes);
    let source = split_of(&data, &args.split)?;
    let bar = ProgressBar::new(source.len() as u64);
    let done = |n| bar.set_position(n as u64);
    let packed = portolan_data::pack(&*source, &data.classes, args.short_side, &args.out, done)?;
    bar.finish_and_clear();
    println!(
        "packed  {} from {} into {} ({:.1} MB); {} kept as they were",
        counted(packed.images, "image", "images"),
        data.name,
        args.out.display(),
        std::fs::metadata(&args.out)?.len() as f64 / 1e6,
        packed.kept
    );
    if let Some(first) = packed.skipped.first() {
        eprintln!(
            "{} could not be read and were skipped, the first: {first}",
            counted(packed.skipped.len(), "image", "images")
        );
    }
    Ok(ExitCode::SUCCESS)
}
