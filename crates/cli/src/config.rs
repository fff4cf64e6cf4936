//! Everything a run depends on: what `config.toml` in its folder holds.

pub(crate) mod adapt;
pub(crate) mod build;
pub(crate) mod overrides;
#[cfg(test)]
mod recipe_tests;
pub(crate) mod resolve;

use anyhow::{Result, ensure};
use portolan_augment::{Interpolation, ViewSpec, Views};
use portolan_encoders::EncoderConfig;
use portolan_evaluate::KnnConfig;
use portolan_images::Augment;
use portolan_interchange::Preprocessing;
use portolan_train::TrainConfig;
use serde::{Deserialize, Serialize};

/// A recipe, or a run's resolved settings: the two have the same form.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunConfig {
    /// The method's name.
    pub(crate) method: String,
    /// The recipe these settings started from.
    pub(crate) recipe: String,
    /// What all randomness follows from.
    pub(crate) seed: u64,
    /// auto, cpu, cuda or cuda:N.
    pub(crate) device: String,
    /// Where views are made; in a run's settings never `auto`, so that it is resumed as it began. Runs from before there
    /// was a choice were made by the CPU.
    #[serde(default = "by_cpu")]
    pub(crate) augment: Augment,
    /// The encoder that training begins with, a file or folder; drawn at random where empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) init: String,
    /// The images.
    pub(crate) data: DataConfig,
    /// The encoder.
    pub(crate) encoder: EncoderConfig,
    /// The method's own settings.
    pub(crate) settings: toml::Table,
    /// The loop.
    pub(crate) training: TrainConfig,
    /// What is measured afterwards.
    pub(crate) evaluation: EvaluationConfig,
    /// The method's views.
    pub(crate) views: Vec<Views>,
    /// Figures others published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) published: Vec<PublishedFigure>,
}

fn by_cpu() -> Augment {
    Augment::Cpu
}

impl RunConfig {
    /// Whether settings of different parts go together.
    ///
    /// # Errors
    /// When two do not; the message names both and the remedy.
    pub(crate) fn validate(&self) -> Result<()> {
        ensure!(
            !(self.training.cuda_graph && self.encoder.recomputes()),
            "cuda_graph cannot be used with recompute, which reads the random generator's state back in each step; leave \
             --cuda-graph out, or say --set recompute=false"
        );
        Ok(())
    }

    /// Every view by itself.
    pub(crate) fn each_view(&self) -> Vec<ViewSpec> {
        Views::each(&self.views)
    }

    /// Mean and standard deviation that the views normalize by; they all use the data set's.
    pub(crate) fn normalization(&self) -> Option<([f32; 3], [f32; 3])> {
        self.each_view().first()?.normalization()
    }
}

/// Which images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataConfig {
    /// shapes, cifar10, cifar100, or a path.
    pub(crate) source: String,
    /// Side in pixels at which `shapes` is rendered.
    pub(crate) size: u32,
    /// Training images, the first so many; 0 for all.
    pub(crate) limit: usize,
    /// Test images, the first so many; 0 for all.
    pub(crate) limit_test: usize,
}

/// What is measured, and on which view.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvaluationConfig {
    /// The short side before the middle is cut out, in pixels.
    pub(crate) resize: u32,
    /// The side of the view, in pixels.
    pub(crate) size: u32,
    /// How images are resized. Runs from before there was a choice did so bilinearly.
    #[serde(default)]
    pub(crate) interpolation: Interpolation,
    /// Whether images are shown in gray: to an encoder that was trained on gray ones.
    pub(crate) grayscale: bool,
    /// Neighbors and temperature.
    pub(crate) knn: KnnConfig,
}

impl EvaluationConfig {
    /// How an image of data with this mean and deviation is shown.
    pub(crate) fn preprocessing(&self, mean: [f32; 3], std: [f32; 3]) -> Preprocessing {
        let &EvaluationConfig { resize, size, interpolation, grayscale, .. } = self;
        Preprocessing { resize, size, interpolation, mean, std, grayscale }
    }
}

/// A figure that others published, and what it was measured on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishedFigure {
    /// Who published it, and where.
    pub(crate) source: String,
    /// `knn_top1`, `knn_best_over_epochs` or `linear_probe_top1`.
    pub(crate) metric: String,
    /// The accuracy, a fraction.
    pub(crate) value: f64,
    /// The data set's name.
    pub(crate) data: String,
    /// The encoder's name.
    pub(crate) encoder: String,
    /// Epochs of pretraining.
    pub(crate) epochs: u64,
    /// Neighbors, of a kNN figure.
    #[serde(default)]
    pub(crate) k: usize,
    /// Temperature, of a kNN figure.
    #[serde(default)]
    pub(crate) temperature: f64,
    /// `encoder`, or `head` where the source measures on the projection head's outputs.
    pub(crate) features: String,
    /// Whether the source reports its best epoch on the test set.
    pub(crate) best_epoch: bool,
    /// All of it in words.
    pub(crate) setting: String,
    /// Everything in which the recipe departs from the source's setting, one phrase each. The report prints them as
    /// the complete list, after what follows from the run's own settings (data, encoder, epochs, kNN, linear classifier).
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
    fn a_run_from_before_a_setting_is_as_it_was() {
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
        // main_linprobe.py, eval_knn.py, data_util.py, utils/dataset.py; torchvision's default in the others.
        let bicubic = ["mae", "dino", "simclr", "byol"];
        for method in METHODS {
            let table = method.recipe("imagenet").unwrap();
            let config: RunConfig = table.try_into().unwrap();
            let found = config.evaluation.interpolation == Interpolation::Bicubic;
            assert_eq!(found, bicubic.contains(&method.name), "{}", method.name);
        }
    }

    #[test]
    fn no_recipe_spends_an_epoch_at_rate_zero() {
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
    fn a_graph_of_recomputed_blocks_is_refused() {
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
