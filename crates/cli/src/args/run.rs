//! Arguments of `reproduce` and `pretrain`.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use portolan::METHODS;
use portolan_encoders::EncoderConfig;
use portolan_method::MethodEntry;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::ThreadsArg;
use crate::methods;
use crate::teacher::TeacherFile;

#[derive(Args)]
pub(crate) struct ReproduceArgs {
    #[arg(required_unless_present_any = ["resume", "all"], help = method_help())]
    pub(crate) method: Option<String>,
    /// Run every method but distill, which needs a teacher, with its recipe, one after the other,
    /// and compare all. bert and gpt are run unless --data or --recipe names images. Finished
    /// methods in the --out folder are skipped, and interrupted ones are resumed.
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

#[derive(Args)]
pub(crate) struct DistillArgs {
    /// The encoder to imitate: a file (safetensors, or the authors' .pth), a hub folder or a run.
    /// --encoder names the student.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present_any = ["resume", "config"],
        conflicts_with = "resume"
    )]
    pub(crate) teacher: Option<PathBuf>,
    /// The architecture of a teacher whose file does not define it, such as vit_small_patch16_224.
    #[arg(long, value_name = "ENCODER", requires = "teacher")]
    pub(crate) teacher_encoder: Option<String>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

fn method_help() -> String {
    let names = methods::names();
    let (last, others) = names.split_last().expect("there are methods");
    format!("{} or {last}", others.join(", "))
}

/// The recipes of every method, then those that only some methods have.
fn recipe_help() -> String {
    let has =
        |method: &MethodEntry, name: &str| method.recipes.iter().any(|recipe| recipe.name == name);
    let recipes = METHODS.iter().flat_map(|method| method.recipes).map(|recipe| recipe.name);
    let names: BTreeSet<&str> = recipes.collect();
    let (common, rare): (Vec<&str>, Vec<&str>) =
        names.into_iter().partition(|name| METHODS.iter().all(|method| has(method, name)));
    let rare = rare.into_iter().map(|name| {
        let methods = METHODS.iter().filter(|method| has(method, name)).map(|method| method.name);
        format!("; {name} ({})", methods.collect::<Vec<_>>().join(", "))
    });
    format!(
        "The recipe to start from: {}{}. Without one, `pretrain` chooses settings for the images \
         and the machine",
        common.join(", "),
        rare.collect::<String>()
    )
}

fn encoder_help() -> String {
    format!("The encoder: {}", EncoderConfig::known_names())
}

/// `warn` was called `tell` up to version 0.1.
fn on_divergence() -> PossibleValuesParser {
    let warn = PossibleValue::new("warn").alias("tell");
    PossibleValuesParser::new([warn, PossibleValue::new("stop"), PossibleValue::new("rollback")])
}

/// Arguments of a run: flags for the most common settings, and --set for all others.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RunArgs {
    /// The method, from the arguments of the command.
    #[arg(skip)]
    pub(crate) method: Option<String>,
    /// The teacher of distillation, from the arguments of the command.
    #[arg(skip)]
    pub(crate) teacher: Option<TeacherFile>,
    #[arg(long, conflicts_with = "resume", help = recipe_help())]
    pub(crate) recipe: Option<String>,
    /// The images: shapes, cifar10, cifar100, fashion-mnist, stl10, or a path to a folder of
    /// images, or of Parquet, tar, CIFAR, STL-10 or MNIST files. The text of bert and gpt:
    /// shakespeare, or a path to text.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) data: Option<String>,
    #[arg(long, conflicts_with = "resume", help = encoder_help())]
    pub(crate) encoder: Option<String>,
    /// Passes over the training images.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) epochs: Option<i64>,
    /// The time limit of the run with its evaluation, such as 30m or 2h. It determines the epochs
    /// unless --epochs is given [default: 1h if neither a flag nor a recipe sets them].
    #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "resume")]
    pub(crate) time: Option<Duration>,
    /// Images per step, over all processes of a job.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) batch_size: Option<i64>,
    /// Train on the first N images only.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub(crate) limit: Option<i64>,
    /// Test on the first N images only.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub(crate) limit_test: Option<i64>,
    /// The share of images that may be unreadable, such as 1% or 0.01. The run stops if more, and
    /// more than ten, are unreadable.
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "resume")]
    pub(crate) max_bad: Option<f64>,
    /// What to do if the loss is not finite or the representation collapses: warn (stops only if
    /// the loss is not finite), stop, or rollback (resume from the last good checkpoint at half the
    /// learning rate).
    #[arg(long, value_parser = on_divergence(), conflicts_with = "resume")]
    pub(crate) on_divergence: Option<String>,
    /// The device: auto, cpu, cuda or cuda:N.
    #[arg(long)]
    pub(crate) device: Option<String>,
    /// Where to augment: auto (on the GPU if training uses one), cpu or device.
    #[arg(long, value_parser = ["auto", "cpu", "device"], conflicts_with = "resume")]
    pub(crate) augment: Option<String>,
    /// The precision: fp32 or bf16.
    #[arg(long, value_parser = ["fp32", "bf16"], conflicts_with = "resume")]
    pub(crate) precision: Option<String>,
    /// Run each step on the GPU as one CUDA graph.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) cuda_graph: bool,
    /// The random seed.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) seed: Option<i64>,
    /// The folder of the run [default: runs/METHOD-RECIPE-TIME].
    #[arg(long, value_name = "FOLDER", conflicts_with = "resume")]
    pub(crate) out: Option<PathBuf>,
    /// Resume the run in this folder from its newest checkpoint.
    #[arg(long, value_name = "RUN")]
    pub(crate) resume: Option<PathBuf>,
    /// Start from the encoder in this file (safetensors, or the authors' .pth), hub folder or run
    /// instead of random weights. For bert and gpt: a run or a folder in transformers' layout, with
    /// its tokenizer.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub(crate) init: Option<PathBuf>,
    /// A TOML file of settings, such as the config.toml of another run.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting by name, such as --set temperature=0.1; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "resume")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) threads: ThreadsArg,
    /// Also log to a TensorBoard event file in the folder of the run.
    #[arg(long)]
    pub(crate) tensorboard: bool,
}

/// Parses `1%` or `0.01`.
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
