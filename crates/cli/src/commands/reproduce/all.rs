//! `reproduce --all`: runs every method and compares them.

use anyhow::{Result, ensure};
use portolan_method::{Family, MethodEntry};
use portolan_metrics::{FILE, read_metrics};
use portolan_report::{Entry, Report, TextEntry, comparison_text, write_comparison};
use portolan_train::duration;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use super::reproduce_one;
use crate::args::RunArgs;
use crate::methods::recipe_for;
use crate::run::estimate;
use crate::run::folder::time_for_names;
use crate::run::signals::{stopped, stopping};
use crate::text::{self, Results};

/// Runs every method with these options, each in its own folder, and compares the results. A failed
/// method is listed at the end and does not stop the others. An interrupted run is resumed from its
/// checkpoint.
///
/// # Errors
/// If every method failed, or the comparison cannot be written.
pub(crate) fn reproduce_all(args: &RunArgs) -> Result<ExitCode> {
    let folder = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(format!("all-{}", time_for_names())));
    let (mut entries, mut failed) = (Vec::new(), Vec::new());
    let methods = methods_for(args);
    let mut remaining = Remaining::measure(&methods, &folder, args);
    for method in methods {
        let out = folder.join(method.name);
        if Report::read(&out).is_err() {
            eprintln!("\n== {}{}", method.title, remaining.next());
            match reproduce_one(&args_for(method.name, &out, args)) {
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
            // If the curves of a run are missing, the table is still useful.
            metrics: read_metrics(&out.join(FILE)).unwrap_or_default(),
        });
    }
    ensure!(!entries.is_empty(), "every method failed; see the errors above");
    let texts = texts(&folder, args, &mut failed);
    if stopping() {
        return Ok(stopped());
    }
    let page = write_comparison(&entries, &texts, &folder.join("comparison.html"))?;
    print!("\n{}", comparison_text(&entries));
    for text in &texts {
        println!("\n{}", text.title);
        for [what, value, beside] in &text.results {
            println!("{what:18} {value:11} {beside}");
        }
    }
    println!("\ncomparison  {}", page.display());
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("failed (see the errors above): {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Runs the methods that learn from text, which have text of their own. They take none of the
/// options for images.
fn texts(folder: &Path, args: &RunArgs, failed: &mut Vec<&'static str>) -> Vec<TextEntry> {
    if args.data.is_some() || args.recipe.is_some() {
        eprintln!("note     bert and gpt are left out: --data and --recipe name images");
        return Vec::new();
    }
    let for_text = RunArgs {
        epochs: args.epochs,
        seed: args.seed,
        device: args.device.clone(),
        precision: args.precision.clone(),
        on_divergence: args.on_divergence.clone(),
        threads: args.threads.clone(),
        tensorboard: args.tensorboard,
        ..RunArgs::default()
    };
    let mut entries = Vec::new();
    for method in portolan::TEXT_METHODS.iter().filter(|_| !stopping()) {
        let out = folder.join(method.name);
        let run = || -> Result<Results> {
            if Results::read(&out).is_err() {
                eprintln!("\n== {}", method.title);
                text::reproduce(method, &args_for(method.name, &out, &for_text))?;
            }
            Results::read(&out)
        };
        match run() {
            Ok(results) => entries.push(TextEntry {
                title: method.title.to_owned(),
                page: format!("{}/report.html", method.name),
                results: results.rows(),
            }),
            Err(_) if stopping() => {}
            Err(error) => {
                eprintln!("error: {error:#}");
                failed.push(method.name);
            }
        }
    }
    entries
}

/// The methods that need nothing but images. If there are recipes for the images of `--data`, the
/// methods that have one.
fn methods_for(args: &RunArgs) -> Vec<&'static MethodEntry> {
    let alone = |method: &&MethodEntry| method.traits.family != Family::Distillation;
    let all: Vec<_> = portolan::METHODS.iter().copied().filter(alone).collect();
    let Some(data) = args.data.as_deref().filter(|_| args.recipe.is_none()) else { return all };
    let fits = |method: &&MethodEntry| recipe_for(method, data).is_some();
    let (fitting, others): (Vec<_>, Vec<&MethodEntry>) = all.iter().copied().partition(fits);
    if fitting.is_empty() {
        return all;
    }
    for method in others {
        eprintln!("note     {} is left out: it has no recipe for {data}", method.name);
    }
    fitting
}

/// The runs that remain.
struct Remaining {
    /// The estimated seconds of each run; 0 for a method that could not be measured.
    seconds: Vec<f64>,
    /// The number of runs that have started.
    begun: usize,
    started: Instant,
}

impl Remaining {
    /// Measures every method that has no report, and prints its estimated time.
    fn measure(methods: &[&MethodEntry], folder: &Path, args: &RunArgs) -> Self {
        eprintln!("measuring a few steps of every method");
        let mut seconds = Vec::new();
        for method in methods {
            let out = folder.join(method.name);
            if Report::read(&out).is_ok() || stopping() {
                continue;
            }
            // An error of a method is reported when its turn comes.
            let takes = estimate(&args_for(method.name, &out, args)).map_or(0.0, |e| e.seconds());
            eprintln!("  {:22} about {}", method.title, duration(takes));
            seconds.push(takes);
        }
        eprintln!("  {:22} about {}", "all", duration(seconds.iter().sum()));
        Remaining { seconds, begun: 0, started: Instant::now() }
    }

    /// The number of the next run and the remaining time of all, corrected by how accurate the
    /// estimates were so far.
    fn next(&mut self) -> String {
        let (before, after) = self.seconds.split_at(self.begun);
        let [before, after] = [before, after].map(|part| part.iter().sum::<f64>());
        let correction =
            if before > 0.0 { self.started.elapsed().as_secs_f64() / before } else { 1.0 };
        self.begun += 1;
        format!(
            " ({} of {}, about {} left in total)",
            self.begun,
            self.seconds.len(),
            duration(after * correction)
        )
    }
}

/// The arguments of one method's run: a new run, or the resumption of an interrupted one.
fn args_for(method: &str, out: &Path, args: &RunArgs) -> RunArgs {
    let started = out.join("config.toml").exists();
    let (resume, fresh) = if started { (Some(out), None) } else { (None, Some(out)) };
    RunArgs {
        method: Some(method.to_owned()),
        out: fresh.map(Path::to_owned),
        resume: resume.map(Path::to_owned),
        ..args.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_time_is_corrected_by_the_error_of_the_estimates() {
        let started = Instant::now();
        let mut remaining = Remaining { seconds: vec![60.0, 120.0, 60.0], begun: 0, started };
        assert_eq!(remaining.next(), " (1 of 3, about 4 min 0 s left in total)");
        // The first run took twice as long as estimated.
        if let Some(earlier) = started.checked_sub(std::time::Duration::from_secs(120)) {
            remaining.started = earlier;
            assert_eq!(remaining.next(), " (2 of 3, about 6 min 0 s left in total)");
        }
    }
}
