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
    /// Steps of linear-dense, of 16 images each; DINOv2 has 40,000 for 20,000 photographs.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) dense_steps: u64,
    /// Write the encoders that finetune and scratch train to this folder, for other protocols.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) save_finetuned: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    #[command(flatten)]
    pub(crate) threads: ThreadsArg,
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
