//! Arguments of `study`.

use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::{DeviceArg, ThreadsArg};

#[derive(Args)]
pub(crate) struct StudyArgs {
    /// The studies: names that --list prints, or TOML files of your own. Several are conducted one
    /// after the other, and described together in claims.md.
    #[arg(required_unless_present_any = ["all", "list"], value_name = "STUDY|FILE")]
    pub(crate) studies: Vec<String>,
    /// All studies that --list prints.
    #[arg(long, conflicts_with = "studies")]
    pub(crate) all: bool,
    /// List the studies with their claims and what they cost.
    #[arg(long, conflicts_with_all = ["studies", "all"])]
    pub(crate) list: bool,
    /// The folder of the results. Runs that are finished there are not repeated, and interrupted
    /// ones are resumed.
    #[arg(long, value_name = "FOLDER", default_value = "runs/studies")]
    pub(crate) out: PathBuf,
    /// The seeds, separated by commas [default: those of the study].
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub(crate) seeds: Vec<u64>,
    /// A setting of every run, such as --set training.epochs=1; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// How many trainings run at the same time; with --threads 1, one for each core is fastest.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) jobs: NonZeroUsize,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    #[command(flatten)]
    pub(crate) threads: ThreadsArg,
}
