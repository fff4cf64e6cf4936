//! The arguments of commands that measure runs and encoders.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

use super::{DeviceArg, EncoderArgs};

#[derive(Args)]
pub(crate) struct EvaluateArgs {
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Images with labels and a test split; the run's own otherwise.
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// What is measured, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "knn,linear")]
    pub(crate) protocol: Vec<Protocol>,
    /// Epochs of linear-sgd.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) linear_epochs: u64,
    /// Epochs of finetune; papers have 30 to 100.
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(crate) finetune_epochs: u64,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}

/// How an encoder is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// Weighted nearest neighbors, for several numbers of them.
    Knn,
    /// Logistic regression on frozen features, solved to convergence.
    Linear,
    /// A linear layer by SGD with a sweep of learning rates, with and without augmentation.
    LinearSgd,
    /// The whole encoder trained on with labels, beside an untrained one.
    Finetune,
    /// Logistic regression on few labels: 1 %, 10 %, and 1, 5 and 10 of each class.
    LowShot,
}

#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// The run's folder; the run may still be going on.
    pub(crate) run: PathBuf,
    /// The name of what is found alone, or `well`.
    #[arg(long)]
    pub(crate) brief: bool,
}

#[derive(Args)]
pub(crate) struct FactorsArgs {
    /// The folders of runs on shapes, side by side.
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,
    /// The page to write; the numbers go into a .json file of the same name.
    #[arg(long, value_name = "FILE", default_value = "factors.html")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}

#[derive(Args)]
pub(crate) struct CompareArgs {
    /// The runs' folders, two or more.
    #[arg(required = true, num_args = 2..)]
    pub(crate) runs: Vec<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE.html")]
    pub(crate) out: PathBuf,
}
