//! `portolan compare`: compares finished runs.

use anyhow::{Context, Result, ensure};
use portolan_metrics::{FILE, read_metrics};
use portolan_report::{Entry, Report, comparison_text, write_comparison};
use std::path::{Path, absolute};
use std::process::ExitCode;

use crate::args::CompareArgs;
use crate::methods;

/// Prints a table and writes a page with the curves of all runs.
pub(crate) fn compare(args: &CompareArgs) -> Result<ExitCode> {
    ensure!(
        args.out.extension().is_some_and(|ending| ending == "html"),
        "{} does not end in .html, the only supported format",
        args.out.display()
    );
    let entries =
        args.runs.iter().map(|run| entry(run, &args.out)).collect::<Result<Vec<Entry>>>()?;
    let page = write_comparison(&entries, &[], &args.out)?;
    print!("{}", comparison_text(&entries));
    println!("\ncomparison  {}", page.display());
    Ok(ExitCode::SUCCESS)
}

/// The entry of a run on the page at `out`, titled with its method and folder.
fn entry(run: &Path, out: &Path) -> Result<Entry> {
    let report = Report::read(run)?;
    let method = methods::find(&report.method)?;
    let from = absolute(out)?;
    let folder = from.parent().context("the page has no folder")?;
    let page = absolute(run)?.join("report.html");
    let page = pathdiff::diff_paths(&page, folder).unwrap_or(page);
    Ok(Entry {
        title: format!("{}, {}", method.title, run.display()),
        page: page.to_string_lossy().into_owned(),
        metrics: read_metrics(&run.join(FILE))?,
        report,
    })
}
