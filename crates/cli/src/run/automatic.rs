//! `pretrain` without a recipe: chooses settings for the images and the machine, each with a
//! reason.
//!
//! [`choose`] makes the choices. All other settings come from a recipe of the method:
//!
//! | images | on a CPU | on a GPU |
//! |---|---|---|
//! | fewer than 20,000 | `shapes`, made for short runs of small batches | the same, with a wider
//! encoder |
//! | more | the same | `cifar10` or `imagenet`, with as large a batch as fits |

mod views;

#[cfg(test)]
mod tests;

use anyhow::{Result, ensure};
use portolan_encoders::{Arch, ConvNextConfig, EncoderConfig, ResNetConfig, Stem, VitConfig};
use portolan_method::MethodEntry;
use portolan_optim::schedule::Per;
use portolan_optim::{OptimizerConfig, Schedule};
use portolan_tensor::Precision;
use serde::Serialize;
use std::fmt::Display;
use toml::{Table, Value};

use crate::config::RunConfig;
use crate::config::overrides::at;
use crate::run::machine::{Images, Machine};

/// The recipe name in the `config.toml` of an automatic run.
pub(crate) const NAME: &str = "auto";

/// Images with at least this short side, in pixels, are treated as photos.
const PHOTO: u32 = 96;
/// With at least this many images, a GPU uses the recipes of the papers.
const MANY: usize = 20_000;
/// The minimum number of steps per epoch.
const STEPS: usize = 4;
/// How often features are evaluated during the run.
const EVALUATIONS: u64 = 5;
/// A GPU with less memory than this, in bytes, gets a small encoder.
const SMALL_GPU: u64 = 10 << 30;
/// CPUs with at least this many cores train on photos of 128 pixels.
const MANY_CORES: usize = 8;

/// A setting, its value, and the reason for it.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// Its path, as for `--set`.
    pub(crate) setting: &'static str,
    pub(crate) value: Value,
    /// The value as text for the user.
    pub(crate) text: String,
    pub(crate) reason: String,
}

impl Choice {
    fn new(setting: &'static str, value: impl Serialize, reason: impl Display) -> Result<Self> {
        let value = Value::try_from(value)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(Choice { setting, value, text, reason: reason.to_string() })
    }

    fn with_text(self, text: String) -> Self {
        Choice { text, ..self }
    }
}

/// The settings chosen for a run, except those that depend on its epochs.
pub(crate) struct Automatic {
    /// The recipe to which the choices are applied.
    base: Table,
    pub(crate) choices: Vec<Choice>,
}

/// Chooses the settings of a method for these images and this machine. `batch` is the batch size,
/// if the user has set it.
///
/// # Errors
/// If there is only one image, or the method cannot learn from the images.
pub(crate) fn choose(
    method: &MethodEntry,
    images: &Images,
    machine: &Machine,
    batch: Option<usize>,
) -> Result<Automatic> {
    ensure!(images.count >= 2, "there is only 1 image; pretraining needs at least 2");
    ensure!(
        !method.needs_color || !images.gray,
        "colorization learns from colors, but these images are gray; choose another method, such \
         as simclr"
    );
    let photos = images.side >= PHOTO;
    let large = machine.gpu && images.count >= MANY;
    let papers = if photos { "imagenet" } else { "cifar10" };
    let recipe = |name| -> Result<RunConfig> { Ok(method.recipe(name)?.try_into()?) };
    let name = if large { papers } else { "shapes" };
    let base = recipe(name)?;
    let case = Case { images, machine, photos, large, base: &base };

    let mut all = Vec::new();
    let (size, why) = case.size();
    all.push(Choice::new("evaluation.size", size, why)?.with_text(format!("{size} px")));
    let resize = if photos { size * 256 / 224 } else { size };
    let why =
        if photos { "evaluation uses a center crop" } else { "evaluation uses the whole image" };
    all.push(Choice::new("evaluation.resize", resize, why)?.with_text(format!("{resize} px")));
    let (encoder, why) = case.encoder(size);
    all.push(Choice::new("encoder", &encoder, why)?.with_text(encoder.name()));
    let from = recipe(papers)?;
    let scale = views::Scale { own: from.evaluation.size, size, unit: unit(&encoder, photos) };
    let views = scale.apply(&from.views, images.gray);
    let why = if images.gray {
        format!("as in the recipe {papers}, without color changes because the images are gray")
    } else {
        format!("as in the recipe {papers}")
    };
    all.push(Choice::new("views", &views, why)?.with_text(views::text(&views)));
    let (fits, why) = case.batch(&views, &encoder);
    let why = if batch.is_some() { "given by you".to_owned() } else { why };
    let batch = batch.unwrap_or(fits);
    all.push(Choice::new("training.batch_size", batch as i64, why)?);
    all.extend(case.learning_rate(batch)?);
    all.extend(case.batch_norm_splits(&encoder, batch)?);
    let (precision, why) = case.precision();
    all.push(Choice::new("training.precision", precision, why)?);
    all.extend(case.queue(batch)?);
    all.extend(case.puzzle(size, &encoder)?);
    all.extend(case.neighbors()?);

    let mut table = method.recipe(name)?;
    table.remove("published");
    table.insert("recipe".to_owned(), NAME.into());
    for limit in ["data.limit", "data.limit_test"] {
        put(&mut table, limit, 0.into());
    }
    Ok(Automatic { base: table, choices: all })
}

impl Automatic {
    /// All settings for a run of `epochs` epochs.
    ///
    /// # Errors
    /// If the recipe is invalid.
    pub(crate) fn table(&self, epochs: u64) -> Result<Table> {
        let mut table = self.base.clone();
        for choice in self.choices.iter().cloned().chain(self.spans(epochs)?) {
            put(&mut table, choice.setting, choice.value);
        }
        Ok(table)
    }

    /// The settings that count epochs.
    fn spans(&self, epochs: u64) -> Result<Vec<Choice>> {
        let base: RunConfig = self.base.clone().try_into()?;
        let share = epochs as f64 / base.training.epochs as f64;
        let scaled = |n: u64| (n as f64 * share).round() as u64;
        let schedule = match base.training.schedule {
            Schedule::Cosine { warmup_epochs, start, last, per } => {
                let warmup_epochs = match per {
                    Per::Step => warmup_epochs * share,
                    Per::Epoch => (warmup_epochs * share).floor(),
                };
                Schedule::Cosine { warmup_epochs, start, last, per }
            }
            Schedule::Drops { epochs, factor } => {
                Schedule::Drops { epochs: epochs.into_iter().map(scaled).collect(), factor }
            }
            Schedule::Constant => Schedule::Constant,
        };
        let as_recipe = "scaled to the length of the run";
        let mut all = vec![
            Choice::new("training.epochs", epochs, "")?,
            Choice::new("training.schedule", schedule, as_recipe)?,
            Choice::new("training.knn_every", (epochs / EVALUATIONS).max(1), "five evaluations")?,
        ];
        // DINO freezes its last layer for one epoch, which must not be most of the run.
        if base.settings.get("freeze_last_layer").is_some() && epochs < STEPS as u64 {
            all.push(Choice::new("settings.freeze_last_layer", 0, "the run is short")?);
        }
        Ok(all)
    }

    /// One line for each choice that the user did not override.
    pub(crate) fn text(&self, config: &RunConfig) -> Result<String> {
        let table = Table::try_from(config)?;
        let kept = |choice: &&Choice| at(&table, choice.setting) == Some(&choice.value);
        let line = |choice: &Choice| {
            let name = choice.setting.rsplit('.').next().unwrap_or_default();
            format!("  {name:18} {:22} {}\n", choice.text, choice.reason)
        };
        Ok(self.choices.iter().filter(kept).map(line).collect())
    }
}

/// The inputs of the choices.
struct Case<'a> {
    images: &'a Images,
    machine: &'a Machine,
    photos: bool,
    /// Whether to use the recipes of the papers.
    large: bool,
    base: &'a RunConfig,
}

impl Case<'_> {
    /// The side of the evaluation view. The other views scale with it.
    fn size(&self) -> (u32, String) {
        let side = self.images.side;
        if !self.photos {
            let size = (side.div_ceil(8) / 2 * 16).clamp(32, 64);
            return (size, format!("images have {side} px; sizes are 32, 48 or 64"));
        }
        let most = match self.machine {
            Machine { gpu: true, .. } => 224,
            Machine { cores, .. } if *cores >= MANY_CORES => 128,
            _ => 96,
        };
        let size = most.min(side / 32 * 32);
        let why = if size == 224 {
            "the size used in the papers".to_owned()
        } else if size < most {
            format!("images have {side} px")
        } else {
            let (times, cores) = ((224.0 / f64::from(size)).powi(2), self.machine.cores);
            format!("on {cores} CPU cores, {times:.0} times as fast as 224 px")
        };
        (size, why)
    }

    fn encoder(&self, size: u32) -> (EncoderConfig, String) {
        let Machine { gpu, memory, .. } = *self.machine;
        let small_gpu = gpu && memory < SMALL_GPU;
        match self.base.encoder.clone() {
            EncoderConfig::Resnet(resnet) if self.large => {
                if small_gpu && !matches!(resnet.arch, Arch::ResNet18 | Arch::ResNet34) {
                    let small = ResNetConfig { arch: Arch::ResNet18, ..resnet };
                    (small.into(), "the GPU has little memory".to_owned())
                } else {
                    (resnet.into(), "as in the recipe".to_owned())
                }
            }
            EncoderConfig::Resnet(resnet) => {
                let (stem, width) = match (self.photos, gpu) {
                    (true, true) => (Stem::Imagenet, 64),
                    (true, false) => (Stem::Imagenet, 32),
                    (false, true) => (Stem::Cifar, 64),
                    (false, false) => (Stem::CifarStrided, 16),
                };
                let why = if gpu { "for few images on a GPU" } else { "narrow, for a CPU" };
                (ResNetConfig { stem, width, ..resnet }.into(), why.to_owned())
            }
            EncoderConfig::ConvNext(convnext) => {
                let patch = if size <= 64 { 2 } else { 4 };
                (ConvNextConfig { patch, ..convnext }.into(), "as in the recipe".to_owned())
            }
            EncoderConfig::Vit(vit) => {
                let image = i64::from(size);
                let tiny = VitConfig { width: 192, depth: 12, heads: 3, ..vit.clone() };
                let (vit, why) = match (self.large, gpu) {
                    (true, _) if small_gpu => (tiny, "the GPU has little memory"),
                    (true, _) => (vit, "as in the recipe"),
                    (false, true) => (tiny, "for few images on a GPU"),
                    (false, false) => (vit, "small, for a CPU"),
                };
                let patch = match (self.photos, gpu) {
                    (true, true) => 16,
                    (true, false) => 8,
                    (false, _) => image / 8,
                };
                (VitConfig { image, patch, ..vit }.into(), why.to_owned())
            }
        }
    }

    /// The largest power of two that the recipe, the number of images and the memory allow.
    fn batch(&self, views: &[portolan_augment::Views], encoder: &EncoderConfig) -> (usize, String) {
        let (count, recipe) = (self.images.count, self.base.training.batch_size);
        let room = self.machine.memory / if self.machine.gpu { 2 } else { 4 };
        let fits = (room / views::bytes(views, encoder).max(1)) as usize;
        let by_data = (count / STEPS).max(2);
        let most = recipe.min(by_data).min(fits.max(2));
        let batch = if most == recipe { recipe } else { 1 << most.ilog2() };
        let why = if most == recipe {
            "as in the recipe".to_owned()
        } else if most < by_data {
            format!("fits into {:.0} GB of memory", self.machine.memory as f64 / 1e9)
        } else if count >= 2 * STEPS {
            format!("{count} images, so that an epoch has at least {STEPS} steps")
        } else {
            format!("there are only {count} images")
        };
        (batch, why)
    }

    /// Scales the learning rate to the batch size, if the recipe does not.
    fn learning_rate(&self, batch: usize) -> Result<Option<Choice>> {
        let training = &self.base.training;
        if training.scaling != portolan_optim::LrScaling::None || batch == training.batch_size {
            return Ok(None);
        }
        let share = batch as f64 / training.batch_size as f64;
        let (share, how) = match training.optimizer {
            OptimizerConfig::Adamw { .. } => {
                (share.sqrt(), "with the square root of the batch size, for AdamW")
            }
            _ => (share, "in proportion to the batch size"),
        };
        let (rate, of) = (training.learning_rate, training.batch_size);
        let why = format!("the recipe has {rate} for batches of {of}; scaled {how}");
        Choice::new("training.learning_rate", rate * share, why).map(Some)
    }

    /// Turns off split batch norm if the batch is too small for it.
    fn batch_norm_splits(&self, encoder: &EncoderConfig, batch: usize) -> Result<Option<Choice>> {
        let splits = encoder.batch_norm_splits() as usize;
        if splits <= 1 || batch.is_multiple_of(splits) && batch / splits >= 2 {
            return Ok(None);
        }
        let why = format!("a batch of {batch} is too small for {splits} groups");
        Choice::new("encoder.batch_norm_splits", 1, why).map(Some)
    }

    fn precision(&self) -> (Precision, &'static str) {
        if self.machine.gpu {
            (Precision::Bf16, "about twice as fast on a GPU")
        } else {
            (Precision::Fp32, "most CPUs are no faster in bf16")
        }
    }

    /// The length of MoCo's queue in whole batches. It holds at most half of the images, so that
    /// few keys belong to images of the current batch.
    fn queue(&self, batch: usize) -> Result<Option<Choice>> {
        let Some(recipe) = self.base.settings.get("queue").and_then(Value::as_integer) else {
            return Ok(None);
        };
        let count = self.images.count;
        let most = (count / 2 / batch * batch).max(batch) as i64;
        if recipe <= most {
            return Ok(None);
        }
        let why = format!("half of the {count} images, in whole batches");
        Choice::new("settings.queue", most, why).map(Some)
    }

    /// The tile or grid size of the pretext tasks.
    fn puzzle(&self, size: u32, encoder: &EncoderConfig) -> Result<Option<Choice>> {
        let own = self.base.evaluation.size;
        let scaled = |n: i64| n * i64::from(size) / i64::from(own);
        let setting = |name: &str| self.base.settings.get(name).and_then(Value::as_integer);
        if size == own {
            return Ok(None);
        }
        if let Some(tile) = setting("tile") {
            let unit = i64::from(unit(encoder, self.photos));
            let tile = (scaled(tile) / unit * unit).max(unit);
            return Choice::new(
                "settings.tile",
                tile,
                "the same share of the view as in the recipe",
            )
            .map(Some);
        }
        let Some(grid) = setting("grid") else { return Ok(None) };
        Choice::new("settings.grid", scaled(grid), "a quarter of the view, as in the paper")
            .map(Some)
    }

    fn neighbors(&self) -> Result<Option<Choice>> {
        let Images { bank, .. } = *self.images;
        let k = self.base.evaluation.knn.k;
        let most = (bank / 10).max(1);
        if bank == 0 || k <= most {
            return Ok(None);
        }
        let why = format!("a tenth of the {bank} labeled images");
        Choice::new("evaluation.knn.k", most as i64, why).map(Some)
    }
}

/// The sides of views are multiples of this number of pixels.
fn unit(encoder: &EncoderConfig, photos: bool) -> u32 {
    encoder.patch().map_or(if photos { 8 } else { 4 }, |patch| patch as u32)
}

/// Sets the value at a path whose tables exist.
fn put(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            if let Some(inner) = table.get_mut(first).and_then(Value::as_table_mut) {
                put(inner, rest, value);
            }
        }
    }
}
