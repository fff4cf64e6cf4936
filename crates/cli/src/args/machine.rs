//! Arguments of the commands that pack data, measure speed and check the device.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

use super::{DeviceArg, ThreadsArg};

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Jobs for a GPU: simclr-32, moco-32, byol-32, simclr-224, mae-224, dino-224. Jobs for a CPU:
    /// simclr-shapes, moco-shapes, byol-shapes. [default: all jobs of the device]
    pub(crate) jobs: Vec<String>,
    /// Images for the jobs that read them, as for pretrain.
    #[arg(long, default_value = "shapes")]
    pub(crate) data: String,
    /// Steps to measure, after a few warm-up steps.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: u64,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// Where to augment: auto (on the GPU if training uses one), cpu or device.
    #[arg(long)]
    pub(crate) augment: Option<String>,
    /// Run each step on the GPU as one CUDA graph. All of its time then counts as forward.
    #[arg(long)]
    pub(crate) cuda_graph: bool,
    /// Any setting of the recipes by name, such as --set batch_size=256; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) threads: ThreadsArg,
    /// Also write the table as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<std::path::PathBuf>,
}

#[derive(Args)]
pub(crate) struct PackArgs {
    /// The images, as --data takes them.
    pub(crate) data: String,
    /// The short side of larger images after resizing, in pixels.
    #[arg(long, default_value_t = 256, value_name = "PIXELS")]
    pub(crate) short_side: u32,
    /// The split: train (also used for a folder without splits) or test.
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

/// The size of a GPU check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plan {
    /// Twelve minutes on one large GPU.
    Full,
    /// The same stages at toy size, for two CPU cores.
    Toy,
}

#[derive(Args)]
pub(crate) struct GpuCheckArgs {
    /// The size of the check.
    #[arg(long, value_enum, default_value = "full")]
    pub(crate) plan: Plan,
    /// CIFAR-10 as JPEG: the folder of its Parquet files.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// The folder of gpu_lightly.py, which measures lightly on the same GPU in the remaining time.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) peers: Option<PathBuf>,
    /// The folder for results.jsonl, summary.txt, the runs and the logs; must be new or empty.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// The device: cuda or cuda:N, or cpu for the toy plan.
    #[arg(long, default_value = "cuda")]
    pub(crate) device: String,
}
