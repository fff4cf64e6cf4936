//! `portolan compare`: finished runs side by side.

use anyhow::{Context, Result, ensure};
use portolan_metrics::{FILE, read_metrics};
use portolan_report::{Entry, Report, comparison_text, write_comparison};
use std::path::{Path, absolute};
use std::process::ExitCode;

use crate::args::CompareArgs;
use crate::methods;

/// `portolan compare`: a table and the curves of some runs, on the terminal and as a page.
pub(crate) fn compare(args: &CompareArgs) -> Result<ExitCode> {
    ensure!(
        args.out.extension().is_some_and(|ending| ending == "html"),
        "{} does not end in .html, the only supported format",
        args.out.display()
    );
    let entries =
        args.runs.iter().map(|run| entry(run, &args.out)).collect::<Result<Vec<Entry>>>()?;
    let page = write_comparison(&entries, &args.out)?;
    print!("{}", comparison_text(&entries));
    println!("\ncomparison  {}", page.display());
    Ok(ExitCode::SUCCESS)
}

/// A run as the page at `out` shows it: named by its method and its folder.
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
