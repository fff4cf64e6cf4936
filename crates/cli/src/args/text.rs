//! Arguments of `fill` and `generate`.

use clap::Args;
use std::path::PathBuf;

use super::DeviceArg;

#[derive(Args)]
pub(crate) struct FillArgs {
    /// The folder of a run of bert.
    pub(crate) run: PathBuf,
    /// The sentence, with [MASK] for each blank.
    pub(crate) sentence: String,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}

#[derive(Args)]
pub(crate) struct GenerateArgs {
    /// The folder of a run of gpt.
    pub(crate) run: PathBuf,
    /// The text to continue.
    #[arg(long, default_value = "")]
    pub(crate) prompt: String,
    /// How many tokens to add.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) tokens: usize,
    /// How freely to draw: 0 takes the likeliest token, 1 draws from the model's own distribution.
    #[arg(long, default_value_t = 0.8)]
    pub(crate) temperature: f64,
    /// Draw from the N likeliest tokens; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) top_k: usize,
    /// The seed of the draws.
    #[arg(long, default_value_t = 1337)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}
