//! `portolan doctor`: whether a run is healthy, in plain words.

use anyhow::{Result, ensure};
use portolan_doctor::{Run, best_epoch, examine, normal_loss};
use portolan_metrics::{FILE, MetricsRow, read_metrics};
use std::process::ExitCode;

use crate::args::DoctorArgs;
use crate::config::RunConfig;
use crate::encoder;

/// What the rules look at of a run with these settings.
pub(crate) fn patient<'a>(config: &'a RunConfig, rows: &'a [MetricsRow]) -> Run<'a> {
    let training = &config.training;
    portolan_train::doctor_run(&config.method, training.batch_size / training.accumulate, rows)
}

pub(crate) fn doctor(args: &DoctorArgs) -> Result<ExitCode> {
    let config = encoder::config_of(&args.run)?;
    let rows = read_metrics(&args.run.join(FILE))?;
    ensure!(
        !rows.is_empty(),
        "{} has logged nothing yet; wait for its first {} steps",
        args.run.display(),
        10
    );
    let run = patient(&config, &rows);
    let finding = examine(&run);
    if args.brief {
        println!("{}", finding.map_or("healthy", |finding| finding.problem.name()));
        return Ok(ExitCode::SUCCESS);
    }
    match finding {
        Some(finding) => println!("{finding}\n"),
        None => println!("No problems detected.\n"),
    }
    println!("{}", normal_loss(&run));
    if let Some(epoch) = best_epoch(&run) {
        println!("The checkpoint to choose without labels is that of epoch {epoch:.0}.");
    }
    Ok(ExitCode::SUCCESS)
}
