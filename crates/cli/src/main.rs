//! The `portolan` program.

mod all;
mod args;
mod bench;
mod commands;
mod config;
mod embeddings;
mod encoder;
mod finish;
mod measure;
mod methods;
mod organize;
mod pack;
mod run;
mod settings;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_target(false).init();
    let result = match args::Cli::parse().command {
        args::Command::Reproduce(args) if args.all => all::reproduce_all(&args),
        args::Command::Reproduce(args) => run::reproduce(args),
        args::Command::Pretrain(args) => run::pretrain(args),
        args::Command::Evaluate(args) => commands::evaluate(&args),
        args::Command::Embed(args) => commands::embed(&args),
        args::Command::Export(args) => commands::export(&args),
        args::Command::Inspect(args) => commands::inspect(&args),
        args::Command::Bench(args) => bench::bench(&args),
        args::Command::Pack(args) => pack::pack(&args),
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
