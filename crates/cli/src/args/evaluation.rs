//! Arguments of the commands that evaluate runs and encoders.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

use super::{DeviceArg, EncoderArgs, ThreadsArg};

#[derive(Args)]
pub(crate) struct EvaluateArgs {
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Images with labels and a test split, or text with labels [default: the data of the run].
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// The protocols to run, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "knn,linear")]
    pub(crate) protocol: Vec<Protocol>,
    /// Epochs of linear-sgd and linear-dinov2 [default: 100; linear-dinov2: 10 of ImageNet, up to
    /// 100 of fewer images].
    #[arg(long, value_name = "N")]
    pub(crate) linear_epochs: Option<u64>,
    /// Epochs of finetune and scratch [default: 30 for images, where papers use 30 to 100; 3 for
    /// text].
    #[arg(long, value_name = "N")]
    pub(crate) finetune_epochs: Option<u64>,
    /// Shares of the labels that finetune and scratch train with, separated by commas: 0.01 is 1 %.
    #[arg(long, value_name = "SHARE", value_delimiter = ',', default_value = "1")]
    #[arg(value_parser = share)]
    pub(crate) labels: Vec<f64>,
    /// Fine-tune a vision transformer by its class token instead of the mean of its patches.
    #[arg(long)]
    pub(crate) class_token: bool,
    /// Steps of linear-dense, of 16 images each; DINOv2 has 40,000 for 20,000 photographs.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) dense_steps: u64,
    /// Write the encoders that finetune and scratch train to this folder, for other protocols.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) save_finetuned: Option<PathBuf>,
    /// The file of all numbers; the page beside it has the same name [default: evaluation.json in
    /// the folder of the run, or beside the encoder file].
    #[arg(long, value_name = "FILE.json")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    #[command(flatten)]
    pub(crate) threads: ThreadsArg,
}

/// A share of the labels, above 0 and up to 1.
fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "a share of the labels is above 0 and at most 1; 0.01 is 1 %".to_owned())
}

/// An evaluation protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// Weighted k-nearest neighbors, for several values of k.
    Knn,
    /// Logistic regression on frozen features, solved to convergence.
    Linear,
    /// A linear layer trained with SGD over several learning rates, with and without augmentation.
    LinearSgd,
    /// DINOv2's linear classifiers on tokens of the last blocks, the best one on training images.
    LinearDinov2,
    /// Fine-tuning of the whole encoder, compared with training from scratch.
    Finetune,
    /// The same encoder trained from scratch with labels, as finetune trains it.
    Scratch,
    /// Logistic regression on few labels: 1 %, 10 %, and 1, 5 and 10 of each class.
    LowShot,
    /// A linear layer on patches for segmentation and depth, of shapes or of images with masks.
    LinearDense,
    /// Boxes of objects without labels (LOST), on shapes.
    Lost,
}

#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// The folder of the run, which may still be in progress.
    pub(crate) run: PathBuf,
    /// Print only the name of the problem, or `healthy`.
    #[arg(long)]
    pub(crate) brief: bool,
}

#[derive(Args)]
pub(crate) struct FactorsArgs {
    /// The folders of the runs on shapes to compare.
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,
    /// The output page; the numbers go to a .json file of the same name.
    #[arg(long, value_name = "FILE", default_value = "factors.html")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    #[command(flatten)]
    pub(crate) threads: ThreadsArg,
}

#[derive(Args)]
pub(crate) struct InvarianceArgs {
    /// The folder of the run.
    pub(crate) run: PathBuf,
    /// The images of each split to change.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) images: usize,
    /// The file of the numbers [default: invariance.json in the folder of the run].
    #[arg(long, value_name = "FILE.json")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    #[command(flatten)]
    pub(crate) threads: ThreadsArg,
}

#[derive(Args)]
pub(crate) struct CompareArgs {
    /// The folders of two or more runs.
    #[arg(required = true, num_args = 2..)]
    pub(crate) runs: Vec<PathBuf>,
    /// The output page.
    #[arg(long, value_name = "FILE.html")]
    pub(crate) out: PathBuf,
}
