//! The settings of a run, as stored in `config.toml`.

pub(crate) mod adapt;
pub(crate) mod build;
pub(crate) mod overrides;
#[cfg(test)]
mod recipe_tests;
pub(crate) mod resolve;
pub(crate) mod teacher;

use anyhow::{Result, ensure};
use portolan_augment::{Interpolation, ViewSpec, Views};
use portolan_data::shapes::Palette;
use portolan_encoders::EncoderConfig;
use portolan_evaluate::KnnConfig;
use portolan_images::Augment;
use portolan_interchange::Preprocessing;
use portolan_train::TrainConfig;
use serde::{Deserialize, Serialize};

/// A recipe, or the resolved settings of a run. Both have the same format.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunConfig {
    /// The name of the method.
    pub(crate) method: String,
    /// The recipe these settings started from.
    pub(crate) recipe: String,
    /// The random seed.
    pub(crate) seed: u64,
    /// The device: auto, cpu, cuda or cuda:N.
    pub(crate) device: String,
    /// Where augmentation runs. Stored settings never contain `auto`, so that a run is resumed with
    /// the same engine. Runs that predate this setting used the CPU.
    #[serde(default = "by_cpu")]
    pub(crate) augment: Augment,
    /// The file or folder of the initial encoder weights; random weights if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) init: String,
    /// The images.
    pub(crate) data: DataConfig,
    /// The encoder.
    pub(crate) encoder: EncoderConfig,
    /// The settings specific to the method.
    pub(crate) settings: toml::Table,
    /// The training loop.
    pub(crate) training: TrainConfig,
    /// The evaluation after training.
    pub(crate) evaluation: EvaluationConfig,
    /// The views of the method.
    pub(crate) views: Vec<Views>,
    /// Published accuracies to compare with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) published: Vec<PublishedAccuracy>,
}

fn by_cpu() -> Augment {
    Augment::Cpu
}

impl RunConfig {
    /// Checks settings that depend on each other.
    ///
    /// # Errors
    /// If two settings conflict. The message names both and a solution.
    pub(crate) fn validate(&self) -> Result<()> {
        ensure!(
            !(self.training.cuda_graph && self.encoder.recomputes()),
            "cuda_graph cannot be used with recompute, which reads the random generator state in \
             each step; remove --cuda-graph, or give --set recompute=false"
        );
        Ok(())
    }

    /// All views, one by one.
    pub(crate) fn each_view(&self) -> Vec<ViewSpec> {
        Views::each(&self.views)
    }

    /// The mean and standard deviation of the normalization, which is the same in all views.
    pub(crate) fn normalization(&self) -> Option<([f32; 3], [f32; 3])> {
        self.each_view().first()?.normalization()
    }
}

/// The images of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataConfig {
    /// shapes, cifar10, cifar100, fashion-mnist, stl10, or a path.
    pub(crate) source: String,
    /// The side in pixels at which `shapes` is rendered.
    pub(crate) size: u32,
    /// The paints of `shapes`: standard, or shifted for another domain.
    #[serde(default, skip_serializing_if = "is_standard")]
    pub(crate) palette: Palette,
    /// The number of training images to use, from the start; 0 for all.
    pub(crate) limit: usize,
    /// The number of test images to use, from the start; 0 for all.
    pub(crate) limit_test: usize,
}

impl DataConfig {
    /// All images of `source`, for an encoder of images of this size. `shapes` are drawn in that
    /// size or the next that the renderer has; the encoder's view resizes them.
    pub(crate) fn whole(source: String, size: u32) -> Self {
        let size = size.clamp(32, 224);
        DataConfig { source, size, palette: Palette::Standard, limit: 0, limit_test: 0 }
    }
}

fn is_standard(palette: &Palette) -> bool {
    *palette == Palette::Standard
}

/// The preprocessing and the metrics of the evaluation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvaluationConfig {
    /// The short side before the center crop, in pixels.
    pub(crate) resize: u32,
    /// The side of the view, in pixels.
    pub(crate) size: u32,
    /// How images are resized. Runs that predate this setting used bilinear.
    #[serde(default)]
    pub(crate) interpolation: Interpolation,
    /// Whether images are converted to gray, for encoders trained on gray images.
    pub(crate) grayscale: bool,
    /// The number of neighbors and the temperature of kNN.
    pub(crate) knn: KnnConfig,
    /// Whether the report has the kNN accuracies of pixels and of a gradient histogram, which takes
    /// half a minute for images of 28 pixels, and memory for all of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) baselines: bool,
}

impl EvaluationConfig {
    /// The preprocessing of images from data with this mean and standard deviation.
    pub(crate) fn preprocessing(&self, mean: [f32; 3], std: [f32; 3]) -> Preprocessing {
        let &EvaluationConfig { resize, size, interpolation, grayscale, .. } = self;
        Preprocessing { resize, size, interpolation, mean, std, grayscale }
    }
}

/// A published accuracy and how it was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishedAccuracy {
    /// The authors and the publication.
    pub(crate) source: String,
    /// `knn_top1`, `knn_best_over_epochs` or `linear_probe_top1`.
    pub(crate) metric: String,
    /// The accuracy as a fraction.
    pub(crate) value: f64,
    /// The name of the data set.
    pub(crate) data: String,
    /// The name of the encoder.
    pub(crate) encoder: String,
    /// Epochs of pretraining.
    pub(crate) epochs: u64,
    /// The number of neighbors of kNN.
    #[serde(default)]
    pub(crate) k: usize,
    /// The temperature of kNN.
    #[serde(default)]
    pub(crate) temperature: f64,
    /// `encoder`, or `head` if the source evaluates the outputs of the projection head.
    pub(crate) features: String,
    /// Whether the source reports its best epoch on the test set.
    pub(crate) best_epoch: bool,
    /// A description of the setting.
    pub(crate) setting: String,
    /// All differences between the recipe and the setting of the source, one phrase each. The
    /// report adds them to the differences that it derives from the run (data, encoder, epochs,
    /// kNN, linear classifier).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) differs: Vec<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::methods::find;
    use portolan::METHODS;
    use portolan_augment::Interpolation;
    use portolan_encoders::PositionScaling;

    #[test]
    fn runs_that_predate_a_setting_keep_their_behavior() {
        let mut table = find("dino").unwrap().recipe("imagenet").unwrap();
        let without = |table: &mut toml::Table, part: &str, key: &str| {
            table[part].as_table_mut().unwrap().remove(key).unwrap();
        };
        without(&mut table, "evaluation", "interpolation");
        without(&mut table, "encoder", "position_scaling");
        let config: RunConfig = table.try_into().unwrap();
        assert_eq!(config.evaluation.interpolation, Interpolation::Bilinear);
        let EncoderConfig::Vit(vit) = config.encoder else { panic!("a ViT") };
        assert_eq!(vit.position_scaling, PositionScaling::Size);
    }

    #[test]
    fn recipes_show_images_as_their_authors_evaluation_does() {
        // main_linprobe.py, eval_knn.py, data/transforms.py, data_util.py, utils/dataset.py; the
        // others use torchvision's default.
        let bicubic = ["mae", "dino", "dinov2", "simclr", "byol"];
        for method in METHODS {
            let table = method.recipe("imagenet").unwrap();
            let config: RunConfig = table.try_into().unwrap();
            let found = config.evaluation.interpolation == Interpolation::Bicubic;
            assert_eq!(found, bicubic.contains(&method.name), "{}", method.name);
        }
    }

    #[test]
    fn shapes_are_drawn_for_encoders_of_any_size() {
        // Fashion-MNIST has 28 pixels, and DINOv2's last phase 518.
        for (size, drawn) in [(28, 32), (64, 64), (518, 224)] {
            let whole = DataConfig::whole("shapes".to_owned(), size);
            let data = crate::data::open_data(&DataConfig { limit: 1, limit_test: 1, ..whole });
            assert_eq!(data.unwrap().train.image(0).unwrap().decode().unwrap().width(), drawn);
        }
    }

    #[test]
    fn no_recipe_trains_an_epoch_at_learning_rate_zero() {
        for method in METHODS {
            for recipe in method.recipes {
                let name = recipe.name;
                let table = method.recipe(name).unwrap();
                let training = table.try_into::<RunConfig>().unwrap().training;
                let at = |step| training.schedule.at(1.0, step, 10, training.epochs);
                assert!(at(9) > 0.0, "{} {name}: the first epoch's last step", method.name);
            }
        }
        let jigsaw = find("jigsaw").unwrap().recipe("cifar10").unwrap();
        let training = jigsaw.try_into::<RunConfig>().unwrap().training;
        let rate = |epoch: u64| training.schedule.at(0.1, epoch * 195, 195, 200);
        assert_eq!(rate(0), 0.025, "VISSL's start_value");
        assert!((rate(4) - 0.1).abs() < 1e-12, "its end_value");
    }

    #[test]
    fn a_cuda_graph_with_recompute_is_refused() {
        let recipe = crate::methods::find("mae").unwrap().recipe("shapes").unwrap();
        let mut config: RunConfig = recipe.try_into().unwrap();
        config.training.cuda_graph = true;
        assert!(config.validate().is_ok());
        if let EncoderConfig::Vit(vit) = &mut config.encoder {
            vit.recompute = true;
        }
        let error = build::build_method(&config, portolan_tensor::Device::Cpu).err().unwrap();
        let error = error.to_string();
        assert!(error.contains("cuda_graph") && error.contains("recompute=false"), "{error}");
        config.training.cuda_graph = false;
        assert!(config.validate().is_ok());
    }
}
