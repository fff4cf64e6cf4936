//! `portolan fill`: the likeliest words for the blanks of a sentence.

use anyhow::Result;
use std::process::ExitCode;

use crate::args::FillArgs;
use crate::run::setup::set_up;
use crate::text::Model;

/// Prints five guesses with their probabilities for each blank.
pub(crate) fn fill(args: &FillArgs) -> Result<ExitCode> {
    let device = set_up(&args.device.name, None)?.device;
    for (i, guesses) in Model::open(&args.run, device)?.fill(&args.sentence)?.iter().enumerate() {
        println!("blank {}", i + 1);
        for guess in guesses {
            println!("  {:5.1} %  {}", 100.0 * guess.probability, guess.token);
        }
    }
    Ok(ExitCode::SUCCESS)
}
