//! Arguments of the commands that use a trained encoder.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

use super::{DeviceArg, EncoderArgs, ThreadsArg};

#[derive(Args)]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// The images: a folder, one image, or anything pretrain takes; or text, of which each passage
    /// is embedded [default: the data of the run].
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// The split of images: train (also used for a folder without splits) or test.
    #[arg(long, default_value = "train")]
    pub(crate) split: String,
    /// Write the features of every patch instead of one vector per image.
    #[arg(long)]
    pub(crate) patches: bool,
    /// The output file; the format follows its extension: .csv, .npy (features only), .parquet or
    /// .safetensors.
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    #[command(flatten)]
    pub(crate) threads: ThreadsArg,
}

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// The folder of the run.
    pub(crate) run: PathBuf,
    /// The output: a file NAME.safetensors, or a folder for the weights, a config.json and a model
    /// card (timm's hub layout).
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Whose names the tensors get: timm's, those of facebookresearch/dinov2, or those of
    /// transformers' Dinov2Model, in a folder with its configs [default: timm for a folder, and for
    /// a file Portolan's, which are timm's with a description inside].
    #[arg(long, value_enum)]
    pub(crate) format: Option<ExportFormat>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ExportFormat {
    Timm,
    Dinov2,
    Transformers,
}

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// The folder of a run, an encoder file, a hub folder, or images as --data takes them.
    pub(crate) what: String,
}

#[derive(Args)]
pub(crate) struct AttentionArgs {
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// The images to draw: JPEG, PNG, WebP, BMP, GIF, TIFF or PNM files.
    #[arg(required_unless_present = "score")]
    pub(crate) images: Vec<PathBuf>,
    /// The output folder, created if it does not exist; with --score, the file of the numbers
    /// [default: attention.json in the folder of the run, or beside the encoder file].
    #[arg(long, value_name = "FOLDER|FILE.json", required_unless_present = "score")]
    pub(crate) out: Option<PathBuf>,
    /// Compare the attention with the masks of shapes instead of drawing.
    #[arg(long, conflicts_with = "images")]
    pub(crate) score: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    #[command(flatten)]
    pub(crate) threads: ThreadsArg,
}

#[derive(Args)]
pub(crate) struct DrawArgs {
    /// The folder of the run.
    pub(crate) run: PathBuf,
    /// The images to draw: JPEG, PNG, WebP, BMP, GIF, TIFF or PNM files.
    #[arg(required_unless_present = "score")]
    pub(crate) images: Vec<PathBuf>,
    /// The output folder, created if it does not exist.
    #[arg(long, value_name = "FOLDER", required_unless_present = "score")]
    pub(crate) out: Option<PathBuf>,
    /// Print a score on held-out images instead of drawing.
    #[arg(long, conflicts_with_all = ["images", "out"])]
    pub(crate) score: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}

#[derive(Args)]
pub(crate) struct PatchesArgs {
    /// The folder of the run.
    pub(crate) run: PathBuf,
    /// The images to draw together: JPEG, PNG, WebP, BMP, GIF, TIFF or PNM files.
    #[arg(required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// The output folder, created if it does not exist.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}

#[derive(Args)]
pub(crate) struct DenseArgs {
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// A folder of images, which may have masks or depth maps, or shapes [default: the data of the
    /// run].
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// The output folder, created if it does not exist.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// The number of images to draw.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) images: usize,
    /// Steps of the dense probe, of 16 images each.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: u64,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}

#[derive(Args)]
pub(crate) struct OrganizeArgs {
    /// The folder of images, searched recursively.
    pub(crate) folder: PathBuf,
    /// Use the encoder of this run.
    #[arg(long, conflicts_with = "encoder")]
    pub(crate) run: Option<PathBuf>,
    /// Use this encoder: a file (safetensors, or the authors' .pth) or a hub folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) encoder: Option<PathBuf>,
    /// The folder for gallery.html and groups.parquet [default: organized].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// The number of groups [default: the number with the best silhouette score].
    #[arg(long, value_name = "K")]
    pub(crate) groups: Option<usize>,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}
