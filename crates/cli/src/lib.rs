//! The `portolan` program: its commands and the code that they share.
//!
//! ```no_run
//! # use std::process::ExitCode;
//! fn main() -> ExitCode {
//!     portolan_cli::main()
//! }
//! ```
//!
//! This is a library with a one-line program, so that the fuzz tests (`fuzz/`) can call the parser
//! of settings.

mod args;
mod commands;
mod config;
mod data;
mod encoder_source;
mod methods;
mod output;
mod run;
mod teacher;
mod text;

use clap::Parser;
use portolan_train::Divergence;
use std::process::ExitCode;

use crate::args::{Cli, Command};
pub use crate::config::overrides::check_text as check_settings;

/// The exit code of a run whose loss or features are not finite numbers. A study tells it from
/// other failures.
pub(crate) const DIVERGED: u8 = 3;

/// Runs the command line. Prints an error as one line and returns exit code 1, or 3 if the loss or
/// the features of a run are not finite numbers.
pub fn main() -> ExitCode {
    portolan_tensor::keep_freed_memory();
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_target(false).init();
    let result = match Cli::parse().command {
        Command::Reproduce(args) => commands::reproduce::reproduce(args),
        Command::Pretrain(args) => commands::pretrain::pretrain(args),
        Command::Distill(args) => commands::distill::distill(args),
        Command::Evaluate(args) => commands::evaluate::evaluate(&args),
        Command::Doctor(args) => commands::doctor::doctor(&args),
        Command::Factors(args) => commands::factors::factors(&args),
        Command::Invariance(args) => commands::invariance::invariance(&args),
        Command::Embed(args) => commands::embed::embed(&args),
        Command::Export(args) => commands::export::export(&args),
        Command::Inspect(args) => commands::inspect::inspect(&args),
        Command::Bench(args) => commands::bench::bench(&args),
        Command::Pack(args) => commands::pack::pack(&args),
        Command::Attention(args) => commands::attention::attention(&args),
        Command::Reconstruct(args) => commands::reconstruct::reconstruct(&args),
        Command::Patches(args) => commands::patches::patches(&args),
        Command::Dense(args) => commands::dense::dense(&args),
        Command::Compare(args) => commands::compare::compare(&args),
        Command::Study(args) => commands::study::study(&args),
        Command::Organize(args) => commands::organize::organize(&args),
        Command::Fill(args) => commands::fill::fill(&args),
        Command::Generate(args) => commands::generate::generate(&args),
        Command::SelfTest(args) => commands::self_test::self_test(&args),
        Command::GpuCheck(args) => commands::gpu_check::gpu_check(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            failure(&error)
        }
    }
}

fn failure(error: &anyhow::Error) -> ExitCode {
    let diverged = error.chain().any(|cause| {
        let training = cause.downcast_ref::<Divergence>().is_some_and(Divergence::is_not_finite);
        training || matches!(cause.downcast_ref(), Some(portolan_evaluate::Error::NotFinite))
    });
    if diverged { ExitCode::from(DIVERGED) } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_have_an_exit_code_of_their_own() {
        let code = |error: &anyhow::Error| format!("{:?}", failure(error));
        let error = anyhow::Error::from(portolan_evaluate::Error::NotFinite).context("of a run");
        assert_eq!(code(&error), format!("{:?}", ExitCode::from(DIVERGED)));
        let other = anyhow::anyhow!("no folder: its training diverged");
        assert_eq!(code(&other), format!("{:?}", ExitCode::FAILURE));
    }
}
