//! The runs of a study. Each is a program of its own, so that one that fails leaves the others, and
//! so that its memory is its own.

use anyhow::{Context, Result, bail, ensure};
use image::GrayImage;
use portolan_metrics::{FILE, read_metrics};
use portolan_study::{Measure, Run, Study};
use portolan_tensor::io;
use portolan_train::correlations;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::DIVERGED;
use crate::args::StudyArgs;
use crate::methods::recipe;

/// The runs of a study.
pub(super) struct Runs<'a> {
    pub(super) study: &'a Study,
    pub(super) args: &'a StudyArgs,
}

impl Runs<'_> {
    /// How a run ended. Makes the run unless it is finished; studies share their runs.
    pub(super) fn finished(&self, run: &Run) -> Result<Outcome> {
        let settings = toml::to_string(&run.settings)?;
        let folder = self.folder(run, &settings)?;
        let parent = self.args.out.join("runs");
        std::fs::create_dir_all(&parent)
            .with_context(|| format!("cannot create the folder {}", parent.display()))?;
        // Another study may be making the same run.
        let lock = File::create(folder.with_extension("lock"))?;
        lock.lock().context("cannot lock the folder of the run")?;
        let report = folder.join("report.json");
        if read(&report).is_err() {
            let file = folder.with_extension("toml");
            io::write_atomic(&file, settings.as_bytes())?;
            if self.program(self.reproduce(run, &file, &folder), &folder)? == Ended::Diverged {
                return Ok(Outcome::Diverged);
            }
        }
        let mut written = BTreeMap::from([
            ("report".to_owned(), read(&report)?),
            ("logged".to_owned(), logged(&folder)?),
        ]);
        for measure in self.study.measures_of(run) {
            written.insert(measure.name.clone(), self.measured(measure, &folder)?);
        }
        Ok(Outcome::Measured { written, correlations: correlations(&folder)? })
    }

    /// What a measure says of a finished run, from its file if it has been measured before.
    fn measured(&self, measure: &Measure, folder: &Path) -> Result<Value> {
        let parent = folder.join("measures");
        std::fs::create_dir_all(&parent)?;
        let file = parent.join(format!("{}.json", short_hash(&measure.command)));
        if !file.exists() {
            // Renamed at the end: what a stopped program leaves is no result.
            let partial = file.with_extension("partial.json");
            let mut command = portolan()?;
            for word in measure.command.split_whitespace() {
                match (word, word.strip_prefix("RUN/")) {
                    ("RUN", _) => command.arg(folder),
                    ("JSON", _) => command.arg(&partial),
                    (_, Some(file)) => command.arg(folder.join(file)),
                    _ => command.arg(word),
                };
            }
            self.place(&mut command);
            let ended = self.program(Ok(command), folder)?;
            ensure!(ended == Ended::Well, "the measure {} diverged", measure.name);
            std::fs::rename(&partial, &file).with_context(|| {
                format!("the measure {} wrote no {}", measure.name, partial.display())
            })?;
        }
        read(&file)
    }

    /// The folder of a run, named by all that determines what it measures: another version of a
    /// recipe makes another run.
    fn folder(&self, run: &Run, settings: &str) -> Result<PathBuf> {
        let StudyArgs { set, device, threads, .. } = self.args;
        let name = run.settings.get("recipe").and_then(toml::Value::as_str).unwrap_or_default();
        let recipe = recipe(&run.method, name)?;
        let all = format!(
            "{}\n{recipe}\n{settings}\n{}\n{set:?}\n{}\n{:?}",
            env!("CARGO_PKG_VERSION"),
            run.seed,
            device.name,
            threads.count
        );
        let name = format!("{}-s{}-{}", run.method, run.seed, short_hash(&all));
        Ok(self.args.out.join("runs").join(name))
    }

    /// The command that makes a run or resumes it.
    fn reproduce(&self, run: &Run, settings: &Path, folder: &Path) -> Result<Command> {
        let mut command = portolan()?;
        command.arg("reproduce");
        self.place(&mut command);
        if folder.join("config.toml").exists() {
            command.arg("--resume").arg(folder);
            return Ok(command);
        }
        command.arg(&run.method).arg("--config").arg(settings).arg("--out").arg(folder);
        command.args(["--seed", &run.seed.to_string()]);
        command.args(self.args.set.iter().flat_map(|set| ["--set", set]));
        Ok(command)
    }

    /// Adds device and threads to a command.
    fn place(&self, command: &mut Command) {
        command.args(["--device", &self.args.device.name]);
        if let Some(count) = self.args.threads.count {
            command.args(["--threads", &count.to_string()]);
        }
    }

    /// Runs a program to its end. What it prints goes to a file beside the folder of the run.
    fn program(&self, command: Result<Command>, folder: &Path) -> Result<Ended> {
        let log = folder.with_extension("log");
        let file = File::options().create(true).append(true).open(&log)?;
        let status = command?.stdout(file.try_clone()?).stderr(file).status()?;
        match status.code() {
            Some(0) => return Ok(Ended::Well),
            Some(code) if code == i32::from(DIVERGED) => return Ok(Ended::Diverged),
            _ => {}
        }
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        bail!("{} (all of it: {})", last.trim_start_matches("error: "), log.display())
    }
}

/// A file of numbers.
fn read(path: &Path) -> Result<Value> {
    let of = || format!("cannot read {}", path.display());
    let text = std::fs::read_to_string(path).with_context(of)?;
    serde_json::from_str(&text).with_context(of)
}

/// The last values of all metrics that a run logged.
fn logged(folder: &Path) -> Result<Value> {
    let rows = read_metrics(&folder.join(FILE))?;
    let all: BTreeMap<String, f64> = rows.into_iter().flat_map(|row| row.metrics).collect();
    Ok(serde_json::to_value(all)?)
}

/// Enough of a text's SHA-256 to tell apart the runs of a folder.
fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// This program.
fn portolan() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().context("cannot find this program's file")?))
}

/// How a program ended that did not fail otherwise.
#[derive(PartialEq, Eq)]
enum Ended {
    Well,
    /// Its loss or its features are not finite.
    Diverged,
}

/// How a run ended.
pub(super) enum Outcome {
    Measured {
        /// What was written of it, as [`Study::value`] wants it.
        written: BTreeMap<String, Value>,
        /// Its correlation matrices, with the number of steps.
        correlations: Vec<(u64, GrayImage)>,
    },
    /// Its loss or its features are not finite.
    Diverged,
}

impl Outcome {
    /// The value of a metric; 0 for an accuracy of a run that diverged.
    pub(super) fn value(&self, study: &Study, metric: &str) -> Option<f64> {
        match self {
            Outcome::Measured { written, .. } => study.value(metric, written),
            Outcome::Diverged => study.is_share(metric).then_some(0.0),
        }
    }

    /// Its correlation matrices, with the number of steps.
    pub(super) fn correlations(&self) -> &[(u64, GrayImage)] {
        match self {
            Outcome::Measured { correlations, .. } => correlations,
            Outcome::Diverged => &[],
        }
    }

    /// Seconds of training.
    pub(super) fn seconds(&self, study: &Study) -> f64 {
        self.value(study, "seconds").unwrap_or(0.0)
    }

    /// The metrics in a line.
    pub(super) fn summary(&self, study: &Study) -> String {
        if matches!(self, Outcome::Diverged) {
            return "  diverged".to_owned();
        }
        let one = |metric: &String| {
            let value = self.value(study, metric)?;
            let name = study.title(metric);
            Some(if study.is_share(metric) {
                format!("  {name} {:.1} %", 100.0 * value)
            } else {
                format!("  {name} {value:.3}")
            })
        };
        study.metrics.iter().filter_map(one).collect()
    }
}
