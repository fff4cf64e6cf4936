//! Command-line arguments.

mod encoders;
mod evaluation;
mod machine;
mod run;
mod study;
mod text;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

pub(crate) use self::encoders::{
    AttentionArgs, DenseArgs, DrawArgs, EmbedArgs, ExportArgs, ExportFormat, InspectArgs,
    OrganizeArgs, PatchesArgs,
};
pub(crate) use self::evaluation::{
    CompareArgs, DoctorArgs, EvaluateArgs, FactorsArgs, InvarianceArgs, Protocol,
};
pub(crate) use self::machine::{BenchArgs, GpuCheckArgs, PackArgs, Plan, SelfTestArgs};
pub(crate) use self::run::{DistillArgs, PretrainArgs, ReproduceArgs, RunArgs};
pub(crate) use self::study::StudyArgs;
pub(crate) use self::text::{FillArgs, GenerateArgs};

/// Self-supervised pretraining of encoders of images and text.
#[derive(Parser)]
#[command(name = "portolan", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Pretrain with a recipe, evaluate, and compare the accuracy with the published one.
    Reproduce(ReproduceArgs),
    /// Pretrain on your own images or any data set, then evaluate if there are labels.
    Pretrain(PretrainArgs),
    /// Train any encoder to imitate a trained one, then evaluate if there are labels.
    Distill(DistillArgs),
    /// Evaluate an encoder from a run or a file: kNN, linear probe, low-shot and fine-tuning.
    Evaluate(EvaluateArgs),
    /// Check the health of a run from its logs, without labels, and suggest what to change first.
    Doctor(DoctorArgs),
    /// Measure which factors of the shapes images an encoder keeps and which it ignores.
    Factors(FactorsArgs),
    /// Measure how far rotations, crops, blurs and colors move features, and whether they show in
    /// them.
    Invariance(InvarianceArgs),
    /// Write the features of every image of a data set.
    Embed(EmbedArgs),
    /// Write a run's encoder as safetensors, with torchvision's or timm's names.
    Export(ExportArgs),
    /// Describe a run, an encoder or a data set.
    Inspect(InspectArgs),
    /// Measure training speed and where the time of a step goes.
    Bench(BenchArgs),
    /// Re-encode a data set at a smaller size, so that training decodes far fewer bytes.
    Pack(PackArgs),
    /// Draw the attention of the class token of a vision transformer, or score it with the masks of
    /// shapes.
    Attention(AttentionArgs),
    /// Draw the patches that an MAE run reconstructs, or score the reconstruction on the test
    /// split.
    Reconstruct(DrawArgs),
    /// Draw the patch features of a vision transformer as colors.
    Patches(PatchesArgs),
    /// Draw attention, patch features and the objects found in images, and train a dense probe if
    /// they have masks or depth maps.
    Dense(DenseArgs),
    /// Compare finished runs in a table and plot their curves together.
    Compare(CompareArgs),
    /// Test a claim about self-supervised learning with a few small trainings.
    Study(StudyArgs),
    /// Group a folder of images, find near-duplicates, and write a gallery page.
    Organize(OrganizeArgs),
    /// Fill the blanks of a sentence with a run of BERT.
    Fill(FillArgs),
    /// Continue a text with a run of GPT.
    Generate(GenerateArgs),
    /// Run the checks that depend on the device and print one line of JSON for each.
    #[command(hide = true)]
    SelfTest(SelfTestArgs),
    /// Run every check that needs a GPU (`cargo xtask gpu`, docs/gpu.md).
    #[command(hide = true, args_override_self = true)]
    GpuCheck(GpuCheckArgs),
}

/// The device to use.
#[derive(Args)]
pub(crate) struct DeviceArg {
    /// The device: auto, cpu, cuda or cuda:N.
    #[arg(id = "device", long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) name: String,
}

/// The number of threads to use.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ThreadsArg {
    /// Threads for libtorch and the data loader [default: the number of cores].
    #[arg(id = "threads", long, value_name = "N")]
    pub(crate) count: Option<usize>,
}

/// A trained encoder.
#[derive(Args)]
pub(crate) struct EncoderArgs {
    /// The folder of a run, an encoder file (safetensors, or the authors' .pth), or a hub folder.
    #[arg(value_name = "RUN|FILE")]
    pub(crate) of: PathBuf,
    /// The architecture of an encoder file whose weights do not define it, such as
    /// vit_small_patch16_224.
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
