//! `portolan generate`: continues a text.

use anyhow::Result;
use portolan_gpt::Sampling;
use std::process::ExitCode;

use crate::args::GenerateArgs;
use crate::run::setup::set_up;
use crate::text::Model;

/// Prints the prompt and what follows.
pub(crate) fn generate(args: &GenerateArgs) -> Result<ExitCode> {
    let device = set_up(&args.device.name, None)?.device;
    let &GenerateArgs { temperature, top_k, seed, .. } = args;
    let how = Sampling { temperature, top_k, seed };
    let text = Model::open(&args.run, device)?.continued(&args.prompt, args.tokens, &how)?;
    println!("{}{text}", args.prompt);
    Ok(ExitCode::SUCCESS)
}
