//! The arguments of `reproduce` and `pretrain`.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use std::path::PathBuf;
use std::time::Duration;

use super::ThreadsArg;
use crate::methods;

#[derive(Args)]
pub(crate) struct ReproduceArgs {
    #[arg(required_unless_present_any = ["resume", "all"], help = method_help())]
    pub(crate) method: Option<String>,
    /// Every method by its recipe, one after the other, and a table of all. Methods that the folder of
    /// --out already holds are not run again; one that was stopped goes on.
    #[arg(long, conflicts_with_all = ["method", "resume", "config"])]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Args)]
pub(crate) struct PretrainArgs {
    #[arg(required_unless_present = "resume", help = method_help())]
    pub(crate) method: Option<String>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

fn method_help() -> String {
    let names = methods::names();
    let (last, others) = names.split_last().expect("there are methods");
    format!("{} or {last}", others.join(", "))
}

/// `tell` was the name of `warn` up to version 0.1.
fn on_divergence() -> PossibleValuesParser {
    let warn = PossibleValue::new("warn").alias("tell");
    PossibleValuesParser::new([warn, PossibleValue::new("stop"), PossibleValue::new("rollback")])
}

/// The arguments of a run: the most common settings by name, any other by --set.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RunArgs {
    /// The method, from the command's own arguments.
    #[arg(skip)]
    pub(crate) method: Option<String>,
    /// The settings to start from: shapes, cifar10 or imagenet; dino has shapes-vit too. Without it `pretrain` chooses
    /// settings for the images and the machine.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) recipe: Option<String>,
    /// Images: shapes, cifar10, cifar100, stl10, or a path to a folder of images, or of Parquet, tar, CIFAR or STL-10 files.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) data: Option<String>,
    /// The encoder: resnet18, resnet34 or resnet50, with -w16 behind it for a narrow one; or vit_tiny_patch4_32, small,
    /// base or large.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) encoder: Option<String>,
    /// Passes over the training images.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) epochs: Option<i64>,
    /// How long the run may take, its evaluation included, as in 30m or 2h: decides the epochs where --epochs does not. One
    /// hour where neither that nor a recipe does.
    #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "resume")]
    pub(crate) time: Option<Duration>,
    /// Images of one step, of all processes of a job together.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) batch_size: Option<i64>,
    /// Train on the first N images only.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub(crate) limit: Option<i64>,
    /// Test on the first N images only.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub(crate) limit_test: Option<i64>,
    /// The share of images that may be unreadable, as in 1% or 0.01: with more (and more than ten) the run stops.
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "resume")]
    pub(crate) max_bad: Option<f64>,
    /// On a loss that is not finite or a collapsed representation: warn (stops only at such a loss),
    /// stop, or rollback (go on from the last good checkpoint at half the learning rate).
    #[arg(long, value_parser = on_divergence(), conflicts_with = "resume")]
    pub(crate) on_divergence: Option<String>,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long)]
    pub(crate) device: Option<String>,
    /// Where views are made: auto (on a GPU where one trains), cpu or device.
    #[arg(long, value_parser = ["auto", "cpu", "device"], conflicts_with = "resume")]
    pub(crate) augment: Option<String>,
    /// fp32 or bf16.
    #[arg(long, value_parser = ["fp32", "bf16"], conflicts_with = "resume")]
    pub(crate) precision: Option<String>,
    /// Hand a GPU each step as one CUDA graph.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) cuda_graph: bool,
    /// What all randomness follows from.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) seed: Option<i64>,
    /// The run's folder; runs/METHOD-RECIPE-TIME otherwise.
    #[arg(long, value_name = "FOLDER", conflicts_with = "resume")]
    pub(crate) out: Option<PathBuf>,
    /// Go on with the run in this folder, from its newest checkpoint.
    #[arg(long, value_name = "RUN")]
    pub(crate) resume: Option<PathBuf>,
    /// Begin with the encoder of this file (safetensors, or .pth of its authors), hub folder or run, not with a random one.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub(crate) init: Option<PathBuf>,
    /// A TOML file of settings, such as another run's config.toml.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting by name, as in --set temperature=0.1; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "resume")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) threads: ThreadsArg,
    /// Write what is logged as an event file for TensorBoard too, in the run's folder.
    #[arg(long)]
    pub(crate) tensorboard: bool,
}

/// `1%` or `0.01`.
fn share(text: &str) -> Result<f64, String> {
    let (number, of) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().ok().map(|number| number / of);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "write a share as 1% or 0.01".to_owned())
}
