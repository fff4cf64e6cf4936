//! `portolan distill`: trains an encoder to imitate a trained one.

use anyhow::{Result, bail};
use std::process::ExitCode;
use std::time::Instant;

use crate::args::{DistillArgs, RunArgs};
use crate::encoder_source::teacher;
use crate::run::plan::Plan;
use crate::run::{automatic, execute};

/// Distills. Without a recipe, settings are chosen for the images and the machine.
pub(crate) fn distill(args: DistillArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let named = args.teacher_encoder.as_deref();
    let teacher = args.teacher.map(|file| teacher::open(file, named)).transpose()?;
    let args = RunArgs { method: Some("distill".to_owned()), teacher, ..args.run };
    let plan = Plan::from_args(&args, |_, args| match args.data.as_deref() {
        None => bail!(
            "give the images on which the teacher is imitated: --data FOLDER (or --data shapes for \
             built-in images)"
        ),
        Some("shapes") => Ok("shapes".to_owned()),
        Some(_) => Ok(automatic::NAME.to_owned()),
    })?;
    execute(plan, &args, started)
}
