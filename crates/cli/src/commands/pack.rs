//! `portolan pack`: a data set encoded once, smaller.

use anyhow::{Result, ensure};
use indicatif::ProgressBar;
use portolan_data::{Options, open};
use std::process::ExitCode;

use crate::args::PackArgs;
use crate::data::split_of;
use crate::data::tell_notes;

pub(crate) fn pack(args: &PackArgs) -> Result<ExitCode> {
    ensure!(
        args.out.extension().is_some_and(|ending| ending == "parquet"),
        "{} does not end in .parquet, the only form that is written",
        args.out.display()
    );
    let data = open(&args.data, &Options::default())?;
    tell_notes(&data.notes);
    let source = split_of(&data, &args.split)?;
    let bar = ProgressBar::new(source.len() as u64);
    let done = |n| bar.set_position(n as u64);
    let packed = portolan_data::pack(&*source, &data.classes, args.short_side, &args.out, done)?;
    bar.finish_and_clear();
    println!(
        "packed  {} pictures of {} in {} ({:.1} MB); {} were small already",
        packed.images,
        data.name,
        args.out.display(),
        std::fs::metadata(&args.out)?.len() as f64 / 1e6,
        packed.kept
    );
    if let Some(first) = packed.skipped.first() {
        eprintln!(
            "{} pictures could not be read and are left out; the first: {first}",
            packed.skipped.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}
