//! The choices for one set of images and one machine.

use anyhow::Result;
use portolan_encoders::{Arch, ConvNextConfig, EncoderConfig, ResNetConfig, Stem, VitConfig};
use portolan_optim::OptimizerConfig;
use portolan_tensor::Precision;
use toml::Value;

use super::{Choice, MANY_CORES, SMALL_GPU, STEPS, views};
use crate::config::RunConfig;
use crate::run::machine::{Images, Machine};
use crate::run::start::Start;

/// The inputs of the choices.
pub(super) struct Case<'a> {
    pub(super) images: &'a Images,
    pub(super) machine: &'a Machine,
    pub(super) photos: bool,
    /// Whether to use the recipes of the papers.
    pub(super) large: bool,
    pub(super) base: &'a RunConfig,
    /// What the run starts from.
    pub(super) start: Option<&'a Start>,
}

impl Case<'_> {
    /// The side of the evaluation view. The other views scale with it.
    pub(super) fn size(&self) -> (u32, String) {
        let side = self.images.side;
        if !self.photos {
            let size = self.in_patches((side.div_ceil(8) / 2 * 16).clamp(32, 64));
            return (size, format!("images have {side} px; sizes are 32, 48 or 64"));
        }
        let most = match self.machine {
            Machine { gpu: true, .. } => 224,
            Machine { cores, .. } if *cores >= MANY_CORES => 128,
            _ => 96,
        };
        let size = self.in_patches(most.min(side / 32 * 32));
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

    /// The multiple of the patch that is nearest to a side, where the encoder is given.
    fn in_patches(&self, side: u32) -> u32 {
        let encoder = self.start.map(|start| start.encoder(&self.base.encoder, 0));
        let Some(patch) = encoder.and_then(|encoder| encoder.patch()) else { return side };
        let patch = patch as u32;
        ((side + patch / 2) / patch * patch).max(patch)
    }

    pub(super) fn encoder(&self, size: u32) -> (EncoderConfig, String) {
        if let Some(start) = self.start {
            return (start.encoder(&self.base.encoder, size), "that of --init".to_owned());
        }
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
    pub(super) fn batch(
        &self,
        views: &[portolan_augment::Views],
        encoder: &EncoderConfig,
    ) -> (usize, String) {
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
    pub(super) fn learning_rate(&self, batch: usize) -> Result<Option<Choice>> {
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
    pub(super) fn batch_norm_splits(
        &self,
        encoder: &EncoderConfig,
        batch: usize,
    ) -> Result<Option<Choice>> {
        let splits = encoder.batch_norm_splits() as usize;
        if splits <= 1 || batch.is_multiple_of(splits) && batch / splits >= 2 {
            return Ok(None);
        }
        let why = format!("a batch of {batch} is too small for {splits} groups");
        Choice::new("encoder.batch_norm_splits", 1, why).map(Some)
    }

    pub(super) fn precision(&self) -> (Precision, &'static str) {
        if self.machine.gpu {
            (Precision::Bf16, "about twice as fast on a GPU")
        } else {
            (Precision::Fp32, "most CPUs are no faster in bf16")
        }
    }

    /// The length of MoCo's queue in whole batches. It holds at most half of the images, so that
    /// few keys belong to images of the current batch.
    pub(super) fn queue(&self, batch: usize) -> Result<Option<Choice>> {
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
    pub(super) fn puzzle(&self, size: u32, encoder: &EncoderConfig) -> Result<Option<Choice>> {
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

    pub(super) fn neighbors(&self) -> Result<Option<Choice>> {
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
pub(super) fn unit(encoder: &EncoderConfig, photos: bool) -> u32 {
    encoder.patch().map_or(if photos { 8 } else { 4 }, |patch| patch as u32)
}
