//! `portolan doctor`: checks the health of a run.

use anyhow::{Result, ensure};
use portolan_doctor::{best_epoch, examine, normal_loss};
use portolan_metrics::{FILE, read_metrics};
use std::process::ExitCode;

use crate::args::DoctorArgs;
use crate::encoder_source::run_encoder;
use crate::run::report::doctor_run;
use crate::text;

pub(crate) fn doctor(args: &DoctorArgs) -> Result<ExitCode> {
    let is_text = text::is_text(&args.run);
    let config = (!is_text).then(|| run_encoder::config_of(&args.run)).transpose()?;
    let rows = read_metrics(&args.run.join(FILE))?;
    ensure!(
        !rows.is_empty(),
        "{} has no metrics yet; wait for its first 10 steps",
        args.run.display()
    );
    let run = match &config {
        Some(config) => doctor_run(config, &rows)?,
        None => text::doctor_run(&args.run, &rows)?,
    };
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
        println!("Without labels, the best checkpoint to choose is from epoch {epoch:.0}.");
    }
    Ok(ExitCode::SUCCESS)
}
