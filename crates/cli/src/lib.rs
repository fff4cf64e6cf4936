//! The `portolan` program: its commands, and what they share.
//!
//! ```no_run
//! # use std::process::ExitCode;
//! fn main() -> ExitCode {
//!     portolan_cli::main()
//! }
//! ```
//!
//! It is a library beside a program of one line, so that what reads settings can be handed hostile ones (`fuzz/`).

mod all;
mod args;
mod attention;
mod automatic;
mod bench;
mod commands;
mod comparable;
mod compare;
mod config;
mod doctor;
mod embeddings;
mod encoder;
mod estimate;
mod evaluate;
mod factors;
mod facts;
mod finish;
mod gpu_check;
mod hub;
mod init;
mod job;
mod measure;
mod methods;
mod organize;
mod pack;
mod patches;
mod pictures;
mod plan;
#[cfg(test)]
mod recipe_tests;
mod reconstruct;
mod run;
mod self_test;
mod settings;
mod stop;
mod trained;
mod work;
mod written_for;

use clap::Parser;
use std::process::ExitCode;

pub use settings::check_text as check_settings;

/// Does what the command line says; an error is told in one line and is the exit code's 1.
pub fn main() -> ExitCode {
    portolan_tensor::keep_freed_memory();
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_target(false).init();
    let result = match args::Cli::parse().command {
        args::Command::Reproduce(args) if args.all => all::reproduce_all(&args),
        args::Command::Reproduce(args) => run::reproduce(args),
        args::Command::Pretrain(args) => run::pretrain(args),
        args::Command::Evaluate(args) => evaluate::evaluate(&args),
        args::Command::Doctor(args) => doctor::doctor(&args),
        args::Command::Factors(args) => factors::factors(&args),
        args::Command::Embed(args) => commands::embed(&args),
        args::Command::Export(args) => commands::export(&args),
        args::Command::Inspect(args) => commands::inspect(&args),
        args::Command::Bench(args) => bench::bench(&args),
        args::Command::Pack(args) => pack::pack(&args),
        args::Command::Attention(args) => attention::attention(&args),
        args::Command::Reconstruct(args) => reconstruct::reconstruct(&args),
        args::Command::Patches(args) => patches::patches(&args),
        args::Command::Compare(args) => compare::compare(&args),
        args::Command::Organize(args) => organize::organize(&args),
        args::Command::SelfTest(args) => self_test::self_test(&args),
        args::Command::GpuCheck(args) => gpu_check::gpu_check(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
