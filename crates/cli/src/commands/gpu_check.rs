//! `portolan gpu-check`: runs every check that needs a GPU and writes each result as it arrives.
//!
//! This is the only list of stages: `cargo xtask gpu` and the folder that it packs for machines
//! without Rust both run this command. Each stage is a separate process, so that a crash or hang
//! does not affect the others.

mod child;
mod stages;

use anyhow::{Context, Result, ensure};
use portolan_report::Report;
use serde_json::{Value, json};
use stages::{Output, Program, Stage, stages};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::args::{GpuCheckArgs, Plan};

/// The time limit of all stages together.
const BUDGET: Duration = Duration::from_secs(12 * 60);
/// No stage is started with less time left than this.
const MIN_TIME_LEFT: Duration = Duration::from_secs(5);

pub(crate) fn gpu_check(args: &GpuCheckArgs) -> Result<ExitCode> {
    ensure!(
        args.plan == Plan::Toy || args.data.is_some(),
        "the full plan trains on CIFAR-10 as JPEG: give --data FOLDER or --plan toy"
    );
    let taken = fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(!taken, "the folder {} is not empty; choose another --out", args.out.display());
    fs::create_dir_all(args.out.join("logs"))
        .with_context(|| format!("cannot create the folder {}", args.out.display()))?;
    let mut results = Results::create(&args.out)?;
    let deadline = Instant::now() + BUDGET;
    let mut failures = 0;
    for stage in stages(args) {
        let started = Instant::now();
        let (state, detail) = run(&stage, args, deadline, &mut results)?;
        failures += usize::from(!matches!(state, "passed" | "skipped"));
        let seconds = started.elapsed().as_secs_f64();
        results
            .write(&stage.name, &json!({ "state": state, "detail": detail, "seconds": seconds }))?;
    }
    println!("results  {}", args.out.join("results.jsonl").display());
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a stage and writes its results. Returns its state and the reason.
fn run(
    stage: &Stage,
    args: &GpuCheckArgs,
    deadline: Instant,
    results: &mut Results,
) -> Result<(&'static str, String)> {
    if stage.needs_gpu && args.device == "cpu" {
        return Ok(("skipped", "no GPU".to_owned()));
    }
    let mut command = match &stage.program {
        Program::Portolan => Command::new(std::env::current_exe()?),
        Program::Python(_) if !has_lightly() => {
            return Ok(("skipped", "python3 has no lightly".to_owned()));
        }
        Program::Python(images) => {
            let mut python = Command::new("python3");
            python.env("CIFAR", images);
            python
        }
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left < MIN_TIME_LEFT {
        return Ok(("not run", "the twelve minutes are over".to_owned()));
    }
    let log = args.out.join("logs").join(format!("{}.txt", stage.name.replace(' ', "-")));
    let limit = stage.limit.min(left);
    let ended = child::run(command.args(&stage.args), File::create(&log)?, limit, |line| {
        match (&stage.output, serde_json::from_str::<Value>(line)) {
            (Output::Lines, Ok(row)) => results.write(&stage.name, &row),
            (Output::Text, _) => results.write(&stage.name, &json!({ "line": line })),
            _ => Ok(()),
        }
    })?;
    Ok(match ended {
        None => ("timed out", "stopped at its time limit".to_owned()),
        Some(status) if !status.success() => ("failed", last_line(&log, &status.to_string())),
        Some(_) => match write_results(stage, results) {
            Ok(()) => ("passed", String::new()),
            Err(error) => ("failed", format!("{error:#}")),
        },
    })
}

/// Writes the results that a stage has left in files.
fn write_results(stage: &Stage, results: &mut Results) -> Result<()> {
    match &stage.output {
        Output::Lines | Output::Text => Ok(()),
        Output::Table(file) => {
            let text = fs::read_to_string(file)?;
            let rows: Vec<Value> = serde_json::from_str(&text)?;
            rows.iter().try_for_each(|row| results.write(&stage.name, row))
        }
        Output::Run { folder, lightly } => {
            let report = Report::read(folder)?;
            let knn = report.knn.context("the run measured no kNN accuracy")?;
            let row = json!({
                "knn": knn.top1,
                "k": knn.k,
                "lightly_knn": lightly,
                "random_init_knn": knn.random_init_top1,
                "epochs": report.epochs,
                "images_per_second": report.images_per_second,
                "training_seconds": report.seconds,
            });
            results.write(&stage.name, &row)
        }
    }
}

fn has_lightly() -> bool {
    let python = Command::new("python3").args(["-c", "import lightly"]).output();
    python.is_ok_and(|output| output.status.success())
}

/// The last line of a log, where the error is; `otherwise` if the log is empty.
fn last_line(log: &Path, otherwise: &str) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or(otherwise).to_owned()
}

/// Writes each result immediately as a line of `results.jsonl` and a line of `summary.txt`.
struct Results {
    json: File,
    summary: File,
}

impl Results {
    fn create(folder: &Path) -> Result<Self> {
        let create = |name: &str| -> Result<File> {
            let path: PathBuf = folder.join(name);
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))
        };
        Ok(Results { json: create("results.jsonl")?, summary: create("summary.txt")? })
    }

    fn write(&mut self, stage: &str, row: &Value) -> Result<()> {
        let mut json = row.clone();
        if let Some(fields) = json.as_object_mut() {
            fields.insert("stage".to_owned(), json!(stage));
        }
        writeln!(self.json, "{json}")?;
        let line = summary_line(stage, row);
        println!("{line}");
        Ok(writeln!(self.summary, "{line}")?)
    }
}

/// A result as one line of text.
fn summary_line(stage: &str, row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let number = |name: &str| row[name].as_f64();
    let percent = |name: &str| 100.0 * number(name).unwrap_or(f64::NAN);
    let speed = |value: f64| format!("{value:.0} images/s");
    let result = if let Some(check) = row["check"].as_str() {
        format!("{:9} {check}: {}", text("state"), text("detail"))
    } else if row["state"].is_string() {
        let seconds = number("seconds").unwrap_or(0.0);
        format!("{:9} the stage, after {seconds:.0} s {}", text("state"), text("detail"))
    } else if let Some(line) = row["line"].as_str() {
        line.to_owned()
    } else if row["knn"].is_number() {
        let lightly = number("lightly_knn").map(|knn| format!("lightly {:.1} %, ", 100.0 * knn));
        format!(
            "kNN {:.1} % ({}untrained {:.1} %) at {}",
            percent("knn"),
            lightly.unwrap_or_default(),
            percent("random_init_knn"),
            speed(number("images_per_second").unwrap_or(f64::NAN))
        )
    } else {
        let memory = number("peak_bytes").map(|bytes| format!(", {:.2} GB", bytes / 1e9));
        let speed = speed(number("images_per_second").unwrap_or(f64::NAN));
        format!("{speed}{}", memory.unwrap_or_default())
    };
    format!("{stage:24} {}", result.trim_end())
}
