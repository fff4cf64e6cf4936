//! The `portolan` program.

mod all;
mod args;
mod attention;
mod bench;
mod commands;
mod compare;
mod config;
mod doctor;
mod embeddings;
mod encoder;
mod evaluate;
mod factors;
mod finish;
mod hub;
mod init;
mod job;
mod measure;
mod methods;
mod organize;
mod pack;
mod patches;
mod pictures;
mod reconstruct;
mod run;
mod settings;
mod trained;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
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
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
