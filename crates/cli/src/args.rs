//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

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
    Reproduce(RunArgs),
    /// Pretrain on your own images (or any data set), then evaluate where there are labels.
    Pretrain(RunArgs),
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

/// What `reproduce` and `pretrain` take: the recipe's most common values by name, any other by --set.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RunArgs {
    /// simclr, moco, moco-v3, byol, simsiam, barlow, vicreg, dino, mae, rotation, jigsaw or colorization.
    #[arg(required_unless_present_any = ["resume", "all"])]
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
    /// When the loss is no longer a number or the representation has collapsed: tell (a collapse is only told), stop, or
    /// rollback to the last good checkpoint, with half the learning rate.
    #[arg(long, value_parser = ["tell", "stop", "rollback"], conflicts_with = "resume")]
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
    /// Every method by its recipe, one after the other, and a table of all (reproduce only). Those that the folder of
    /// --out already holds are not run again, and one that was stopped goes on.
    #[arg(long, conflicts_with_all = ["method", "resume", "config"])]
    pub(crate) all: bool,
    /// Threads for libtorch and for the loader; as many as there are cores otherwise.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
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

#[derive(Args)]
pub(crate) struct EvaluateArgs {
    /// The run's folder; or an encoder's file (safetensors, or .pth of its authors) or hub folder.
    #[arg(value_name = "RUN|FILE")]
    pub(crate) of: PathBuf,
    /// What a file's encoder is, where its weights do not say: vit_small_patch16_224, for instance.
    #[arg(long)]
    pub(crate) encoder: Option<String>,
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
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
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
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
}

#[derive(Args)]
pub(crate) struct EmbedArgs {
    /// The run's folder; or an encoder's file (safetensors, or .pth of its authors) or hub folder.
    #[arg(value_name = "RUN|FILE")]
    pub(crate) of: PathBuf,
    /// What a file's encoder is, where its weights do not say: vit_small_patch16_224, for instance.
    #[arg(long)]
    pub(crate) encoder: Option<String>,
    /// The images: a folder, one image, or whatever pretrain takes; the run's own otherwise.
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Which split: train (also what an unsplit folder is) or test.
    #[arg(long, default_value = "train")]
    pub(crate) split: String,
    /// The file to write; its ending says the form: .csv, .npy (features alone), .parquet or .safetensors.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
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
pub(crate) struct BenchArgs {
    /// simclr-32, moco-32, byol-32, simclr-224, mae-224, dino-224 (those of a GPU, which are all measured on one if none
    /// is named); simclr-shapes, moco-shapes, byol-shapes (of a CPU).
    pub(crate) jobs: Vec<String>,
    /// Images for the jobs that read them: as for pretrain.
    #[arg(long, default_value = "shapes")]
    pub(crate) data: String,
    /// Steps to measure, after a few to warm up.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: u64,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
    /// Where views are made: auto (on a GPU where one trains), cpu or device.
    #[arg(long)]
    pub(crate) augment: Option<String>,
    /// Hand a GPU each step as one CUDA graph. A step's parts cannot be told apart then: all of it counts as forward.
    #[arg(long)]
    pub(crate) cuda_graph: bool,
    /// Any setting of the recipes by name, as in --set batch_size=256; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Threads for libtorch and for the loader; as many as there are cores otherwise.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Write the table as JSON too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<std::path::PathBuf>,
}

#[derive(Args)]
pub(crate) struct PackArgs {
    /// Images, as --data takes them.
    pub(crate) data: String,
    /// What the short side of larger pictures becomes, in pixels.
    #[arg(long, default_value_t = 256, value_name = "PIXELS")]
    pub(crate) short_side: u32,
    /// Which split: train (also what an unsplit folder is) or test.
    #[arg(long, default_value = "train")]
    pub(crate) split: String,
    /// The Parquet file to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
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
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
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
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
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
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
}

#[derive(Args)]
pub(crate) struct SelfTestArgs {
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plan {
    /// What fills twelve minutes on one large GPU.
    Full,
    /// The same stages at a size for two cores, to test the program itself.
    Toy,
}

#[derive(Args)]
pub(crate) struct GpuCheckArgs {
    /// How much of it.
    #[arg(long, value_enum, default_value = "full")]
    pub(crate) plan: Plan,
    /// CIFAR-10 as JPEG: the folder of its Parquet files.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// The folder of gpu_lightly.py, which measures lightly on the same GPU in the time that is left.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) peers: Option<PathBuf>,
    /// The folder for results.jsonl, summary.txt, the runs and what each stage printed; new or empty.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// cuda or cuda:N; cpu for the toy plan.
    #[arg(long, default_value = "cuda")]
    pub(crate) device: String,
}
