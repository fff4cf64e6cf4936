//! The command line.

mod encoders;
mod evaluation;
mod machine;
mod run;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

pub(crate) use self::encoders::{
    EmbedArgs, ExportArgs, InspectArgs, OrganizeArgs, PatchesArgs, PicturesArgs,
};
pub(crate) use self::evaluation::{CompareArgs, DoctorArgs, EvaluateArgs, FactorsArgs, Protocol};
pub(crate) use self::machine::{BenchArgs, GpuCheckArgs, PackArgs, Plan, SelfTestArgs};
pub(crate) use self::run::{PretrainArgs, ReproduceArgs, RunArgs};

/// Self-supervised pretraining of vision encoders.
#[derive(Parser)]
#[command(name = "portolan", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Pretrain and evaluate by a recipe, and show the figure beside the published one.
    Reproduce(ReproduceArgs),
    /// Pretrain on your own images (or any data set), then evaluate where there are labels.
    Pretrain(PretrainArgs),
    /// kNN, linear probe, low-shot and fine-tuning of a run's encoder, or of one in a file, on a data set.
    Evaluate(EvaluateArgs),
    /// Whether a run is healthy, from what it logged and without labels; what to change first where it is not.
    Doctor(DoctorArgs),
    /// What runs on shapes keep of the factors of its images, and what they ignore: a table and a page.
    Factors(FactorsArgs),
    /// Write the features of every image of a data set.
    Embed(EmbedArgs),
    /// Write a run's encoder as safetensors, with torchvision's or timm's names.
    Export(ExportArgs),
    /// Say what a run, or a data set, holds.
    Inspect(InspectArgs),
    /// Measure how fast this machine trains, and where a step's time goes.
    Bench(BenchArgs),
    /// Encode a data set once, smaller, so that training decodes a fraction of the bytes.
    Pack(PackArgs),
    /// Show what the class token of a run's vision transformer attends to; or score that against the masks of `shapes`.
    Attention(PicturesArgs),
    /// Show what a run of MAE paints in the place of hidden patches; or score that on the test split.
    Reconstruct(PicturesArgs),
    /// Show the patch features of a run's vision transformer as colors.
    Patches(PatchesArgs),
    /// Set finished runs side by side: a table, and their curves over one another.
    Compare(CompareArgs),
    /// Group a folder of photographs, find its near-duplicates, and write a gallery to look through.
    Organize(OrganizeArgs),
    /// Check what depends on the device: a line of JSON for each check.
    #[command(hide = true)]
    SelfTest(SelfTestArgs),
    /// Run everything that only a GPU can show (`cargo xtask gpu`, docs/gpu.md).
    #[command(hide = true, args_override_self = true)]
    GpuCheck(GpuCheckArgs),
}

/// Which device to use.
#[derive(Args)]
pub(crate) struct DeviceArg {
    /// auto, cpu, cuda or cuda:N.
    #[arg(id = "device", long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) name: String,
}

/// How many threads to use.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ThreadsArg {
    /// Threads for libtorch and for the loader [default: the number of cores].
    #[arg(id = "threads", long, value_name = "N")]
    pub(crate) count: Option<usize>,
}

/// A trained encoder.
#[derive(Args)]
pub(crate) struct EncoderArgs {
    /// The run's folder; or an encoder's file (safetensors, or .pth of its authors) or hub folder.
    #[arg(value_name = "RUN|FILE")]
    pub(crate) of: PathBuf,
    /// What a file's encoder is, where its weights do not say: vit_small_patch16_224, for instance.
    #[arg(id = "encoder", long, value_name = "ENCODER")]
    pub(crate) name: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Shared groups of arguments must not collide in a command.
    #[test]
    fn every_command_has_arguments_that_fit_together() {
        Cli::command().debug_assert();
    }
}
