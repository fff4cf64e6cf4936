//! The arguments of commands that use a trained encoder.

use clap::Args;
use std::path::PathBuf;

use super::{DeviceArg, EncoderArgs};

#[derive(Args)]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// The images: a folder, one image, or whatever pretrain takes; the run's own otherwise.
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Which split: train (also what an unsplit folder is) or test.
    #[arg(long, default_value = "train")]
    pub(crate) split: String,
    /// The file to write; its ending says the form: .csv, .npy (features alone), .parquet or .safetensors.
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// The file to write, NAME.safetensors; or a folder, which gets a config.json and a model card too (timm's hub layout).
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// A run's folder, an encoder's file or hub folder, or images as --data takes them.
    pub(crate) what: String,
}

#[derive(Args)]
pub(crate) struct PicturesArgs {
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// Photographs to show it on: JPEG, PNG, WebP, BMP, GIF, TIFF or PNM files.
    #[arg(required_unless_present = "score")]
    pub(crate) images: Vec<PathBuf>,
    /// The folder for the pictures, made where it is missing.
    #[arg(long, value_name = "FOLDER", required_unless_present = "score")]
    pub(crate) out: Option<PathBuf>,
    /// Measure it on held-out images instead.
    #[arg(long, conflicts_with_all = ["images", "out"])]
    pub(crate) score: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}

#[derive(Args)]
pub(crate) struct PatchesArgs {
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// Photographs to show it on, together: JPEG, PNG, WebP, BMP, GIF, TIFF or PNM files.
    #[arg(required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// The folder for the pictures, made where it is missing.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}

#[derive(Args)]
pub(crate) struct OrganizeArgs {
    /// The folder of photographs, however deep they lie.
    pub(crate) folder: PathBuf,
    /// The run whose encoder looks at them.
    #[arg(long, conflicts_with = "encoder")]
    pub(crate) run: Option<PathBuf>,
    /// The encoder: a file (safetensors, or .pth of its authors) or a hub folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) encoder: Option<PathBuf>,
    /// The folder to write gallery.html and groups.parquet into; organized/ otherwise.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// How many groups; chosen by the silhouette otherwise.
    #[arg(long, value_name = "K")]
    pub(crate) groups: Option<usize>,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}
