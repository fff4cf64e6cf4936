//! The arguments of commands about data on disk and the speed of this machine.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

use super::{DeviceArg, ThreadsArg};

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// simclr-32, moco-32, byol-32, simclr-224, mae-224, dino-224 (those of a GPU, which are all measured on one if none
    /// is named); simclr-shapes, moco-shapes, byol-shapes (of a CPU).
    pub(crate) jobs: Vec<String>,
    /// Images for the jobs that read them: as for pretrain.
    #[arg(long, default_value = "shapes")]
    pub(crate) data: String,
    /// Steps to measure, after a few to warm up.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: u64,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// Where views are made: auto (on a GPU where one trains), cpu or device.
    #[arg(long)]
    pub(crate) augment: Option<String>,
    /// Hand a GPU each step as one CUDA graph. A step's parts cannot be told apart then: all of it counts as forward.
    #[arg(long)]
    pub(crate) cuda_graph: bool,
    /// Any setting of the recipes by name, as in --set batch_size=256; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) threads: ThreadsArg,
    /// Write the table as JSON too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<std::path::PathBuf>,
}

#[derive(Args)]
pub(crate) struct PackArgs {
    /// Images, as --data takes them.
    pub(crate) data: String,
    /// What the short side of larger pictures becomes, in pixels.
    #[arg(long, default_value_t = 256, value_name = "PIXELS")]
    pub(crate) short_side: u32,
    /// Which split: train (also what an unsplit folder is) or test.
    #[arg(long, default_value = "train")]
    pub(crate) split: String,
    /// The Parquet file to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct SelfTestArgs {
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plan {
    /// What fills twelve minutes on one large GPU.
    Full,
    /// The same stages at a size for two cores, to test the program itself.
    Toy,
}

#[derive(Args)]
pub(crate) struct GpuCheckArgs {
    /// How much of it.
    #[arg(long, value_enum, default_value = "full")]
    pub(crate) plan: Plan,
    /// CIFAR-10 as JPEG: the folder of its Parquet files.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// The folder of gpu_lightly.py, which measures lightly on the same GPU in the time that is left.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) peers: Option<PathBuf>,
    /// The folder for results.jsonl, summary.txt, the runs and what each stage printed; new or empty.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// cuda or cuda:N; cpu for the toy plan.
    #[arg(long, default_value = "cuda")]
    pub(crate) device: String,
}
