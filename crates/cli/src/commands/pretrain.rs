//! `portolan pretrain`: pretrain on your own images.

use anyhow::{Result, bail};
use std::process::ExitCode;
use std::time::Instant;

use crate::args::{PretrainArgs, RunArgs};
use crate::run::plan::Plan;
use crate::run::{automatic, execute};
use crate::text;

/// Pretrains. Without a recipe, settings are chosen for the images and the machine.
pub(crate) fn pretrain(args: PretrainArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let args = RunArgs { method: args.method, ..args.run };
    if let Some(entry) = text::method_of(&args) {
        return text::pretrain(entry, &args);
    }
    let plan = Plan::from_args(&args, |_, args| match args.data.as_deref() {
        None => bail!(
            "give the images to train on: --data FOLDER (or --data shapes for built-in images)"
        ),
        Some("shapes") => Ok("shapes".to_owned()),
        Some(_) => Ok(automatic::NAME.to_owned()),
    })?;
    execute(plan, &args, started)
}
