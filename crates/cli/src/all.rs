//! `reproduce --all`: every method, and one table of them.

use anyhow::{Result, ensure};
use portolan_doctor::read_metrics;
use portolan_report::{Entry, Report, comparison_text, write_comparison};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::args::RunArgs;
use crate::methods;
use crate::run::{reproduce, stopping, time_for_names};

/// Runs every method with these options, each in a folder of its name, and compares what came out. A method that fails is
/// named at the end and does not keep the others from running; one that was stopped goes on from its checkpoint.
///
/// # Errors
/// When no method ended well, or the comparison cannot be written.
pub(crate) fn reproduce_all(args: &RunArgs) -> Result<ExitCode> {
    let folder = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(format!("all-{}", time_for_names())));
    let (mut entries, mut failed) = (Vec::new(), Vec::new());
    for method in methods::all() {
        let out = folder.join(method.name);
        if Report::read(&out).is_err() {
            eprintln!("\n== {}", method.title);
            match reproduce(one(method.name, &out, args)) {
                Ok(code) if stopping() => return Ok(code),
                Ok(_) => {}
                Err(error) => {
                    eprintln!("error: {error:#}");
                    failed.push(method.name);
                    continue;
                }
            }
        }
        entries.push(Entry {
            title: method.title.to_owned(),
            page: format!("{}/report.html", method.name),
            report: Report::read(&out)?,
            // A table without this run's curves is better than none.
            metrics: read_metrics(&out.join("metrics.jsonl")).unwrap_or_default(),
        });
    }
    ensure!(!entries.is_empty(), "no method ended well; their errors are above");
    let page = write_comparison(&entries, &folder.join("comparison.html"))?;
    print!("\n{}", comparison_text(&entries));
    println!("\ncomparison  {}", page.display());
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("these failed, for the reasons above: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// The arguments of one method's run: those of all, or the ones that go on with a run that was stopped.
fn one(method: &str, out: &Path, args: &RunArgs) -> RunArgs {
    let started = out.join("config.toml").exists();
    let (resume, fresh) = if started { (Some(out), None) } else { (None, Some(out)) };
    RunArgs {
        method: Some(method.to_owned()),
        out: fresh.map(Path::to_owned),
        resume: resume.map(Path::to_owned),
        all: false,
        ..args.clone()
    }
}
