//! `portolan reproduce`: pretrains and evaluates with a recipe.

mod all;

use anyhow::Result;
use std::process::ExitCode;
use std::time::Instant;

use self::all::reproduce_all;
use crate::args::{ReproduceArgs, RunArgs};
use crate::run::execute;
use crate::run::plan::Plan;
use crate::text;

/// Reproduces one method or all of them.
pub(crate) fn reproduce(args: ReproduceArgs) -> Result<ExitCode> {
    let run = RunArgs { method: args.method, ..args.run };
    if let Some(entry) = text::method_of(&run) {
        return text::reproduce(entry, &run);
    }
    if args.all { reproduce_all(&run) } else { reproduce_one(&run) }
}

/// Reproduces one method, with its first recipe unless another is given.
pub(crate) fn reproduce_one(args: &RunArgs) -> Result<ExitCode> {
    let started = Instant::now();
    execute(Plan::from_args(args, Plan::first_recipe)?, args, started)
}
