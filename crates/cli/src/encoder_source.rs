//! A trained encoder from a run or a file, with its preprocessing. Used by `evaluate`, `embed` and
//! `organize`.

pub(crate) mod run_encoder;
pub(crate) mod teacher;

use anyhow::{Context, Result};
use portolan_augment::{Interpolation, Op, ViewSpec, presets};
use portolan_data::{Dataset, DenseDataset};
use portolan_encoders::{Encoder, EncoderConfig, build};
use portolan_evaluate::KnnConfig;
use portolan_interchange::{LoadedEncoder, Preprocessing};
use portolan_tensor::{Device, Precision, Vars};
use std::path::{Path, PathBuf};

use crate::config::{DataConfig, RunConfig};
use crate::data::{open_data, open_dense_data};

/// Defaults for encoder files: the neighbors and temperature of InstDisc and DINO, as in the
/// recipes.
const KNN: KnnConfig = KnnConfig { k: 20, temperature: 0.07 };

/// A trained encoder that can be built.
pub(crate) struct EncoderSource {
    /// The architecture.
    pub(crate) config: EncoderConfig,
    /// The preprocessing of its images.
    pub(crate) preprocessing: Preprocessing,
    /// The default settings of kNN.
    pub(crate) knn: KnnConfig,
    pub(crate) precision: Precision,
    pub(crate) seed: u64,
    /// The random crop of its training; for files, that of ImageNet classifiers.
    crop: Option<Op>,
    origin: Origin,
}

enum Origin {
    Run(PathBuf, Box<RunConfig>),
    File(PathBuf, Box<LoadedEncoder>),
}

impl EncoderSource {
    /// Opens the encoder of a run, or of a file or hub folder. `named` gives the architecture if
    /// the weights do not define it.
    ///
    /// # Errors
    /// If there is no usable encoder.
    pub(crate) fn open(path: &Path, named: Option<&str>) -> Result<Self> {
        if path.join("config.toml").exists() {
            anyhow::ensure!(
                named.is_none(),
                "{} is a run, whose settings already name the encoder; remove --encoder",
                path.display()
            );
            Self::of_run(path)
        } else {
            Self::of_file(path, named)
        }
    }

    fn of_run(folder: &Path) -> Result<Self> {
        Self::of_config(folder, run_encoder::config_of(folder)?)
    }

    fn of_config(folder: &Path, run: RunConfig) -> Result<Self> {
        let crop = run.each_view().into_iter().flat_map(|view| view.ops);
        Ok(EncoderSource {
            config: run.encoder.clone(),
            preprocessing: run_encoder::preprocessing(&run)?,
            knn: run.evaluation.knn.clone(),
            precision: run.training.precision,
            seed: run.seed,
            crop: crop.into_iter().find(|op| matches!(op, Op::RandomResizedCrop { .. })),
            origin: Origin::Run(folder.to_owned(), Box::new(run)),
        })
    }

    fn of_file(path: &Path, named: Option<&str>) -> Result<Self> {
        let named = named.map(EncoderConfig::named).transpose()?;
        let found = LoadedEncoder::open(path, named.as_ref())?;
        print_load_summary(&found, path);
        let crop = Op::RandomResizedCrop {
            size: found.preprocessing.size,
            scale: [0.08, 1.0], // as in torchvision
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            interpolation: Interpolation::Bilinear,
        };
        Ok(EncoderSource {
            config: found.config.clone(),
            preprocessing: found.preprocessing,
            knn: KNN,
            precision: Precision::Fp32,
            seed: 0,
            crop: Some(crop),
            origin: Origin::File(path.to_owned(), Box::new(found)),
        })
    }

    /// Whether images are as small as those of CIFAR or `shapes`. Crops of a twelfth, or erasing a
    /// third, would leave too little of them.
    pub(crate) fn has_small_images(&self) -> bool {
        self.preprocessing.size <= 64
    }

    fn is_finetuned_as_mae(&self) -> bool {
        self.config.is_transformer() && !self.has_small_images()
    }

    /// How test images are prepared in fine-tuning.
    pub(crate) fn finetuning_preprocessing(&self) -> Preprocessing {
        if self.is_finetuned_as_mae() {
            Preprocessing { interpolation: Interpolation::Bicubic, ..self.preprocessing }
        } else {
            self.preprocessing
        }
    }

    /// The training and test views of fine-tuning. Vision transformers use those of MAE's
    /// `util/datasets.py`; ResNets and small images use those of the other protocols.
    pub(crate) fn finetuning_views(&self) -> [ViewSpec; 2] {
        if !self.is_finetuned_as_mae() {
            return [self.training_view(), self.eval_view()];
        }
        let preprocessing = self.finetuning_preprocessing();
        let Preprocessing { size, mean, std, .. } = preprocessing;
        let train = presets::finetuning(size).with_normalization(mean, std);
        [in_gray(train, &preprocessing), view_of(&preprocessing)]
    }

    /// Builds the network on `device`. `config` is its own, possibly with other training settings.
    ///
    /// # Errors
    /// If the weights are missing or do not fit.
    pub(crate) fn build(&self, config: &EncoderConfig, device: Device) -> Result<Box<dyn Encoder>> {
        match &self.origin {
            Origin::Run(folder, run) => {
                let run = RunConfig { encoder: config.clone(), ..(**run).clone() };
                run_encoder::load(folder, &run, device)
            }
            Origin::File(_, found) => Ok(found.build(config, device)?),
        }
    }

    /// The network before training: with a run's initial values, or for a file with those of
    /// seed 0.
    ///
    /// # Errors
    /// If libtorch fails.
    pub(crate) fn untrained(&self, device: Device) -> Result<Box<dyn Encoder>> {
        match &self.origin {
            Origin::Run(_, run) => run_encoder::untrained(run, device),
            Origin::File(..) => {
                portolan_tensor::seed(self.seed);
                Ok(build(&self.config, &Vars::new(device))?)
            }
        }
    }

    /// The images that the run was trained on; for a file all of `usual`.
    pub(crate) fn own_data(&self, usual: &str) -> DataConfig {
        match &self.origin {
            Origin::Run(_, run) => run.data.clone(),
            Origin::File(..) => DataConfig::whole(usual.to_owned(), self.preprocessing.size),
        }
    }

    /// All images of `--data`, or the images of the run.
    ///
    /// # Errors
    /// If they cannot be opened, or if an encoder file is used without `--data`.
    pub(crate) fn data(&self, source: Option<&String>) -> Result<Dataset> {
        let own = match &self.origin {
            Origin::Run(_, run) => Some(run.data.clone()),
            Origin::File(..) => None,
        };
        let size = own.as_ref().map_or(self.preprocessing.size, |own| own.size);
        let data = match source {
            Some(source) => DataConfig::whole(source.clone(), size),
            None => own.context("an encoder file has no images of its own; give --data")?,
        };
        open_data(&data)
    }

    /// Images with masks or depth maps at `--data`, or those of the run.
    ///
    /// # Errors
    /// If there are none. An encoder file needs `--data`.
    pub(crate) fn dense_data(&self, source: Option<&String>) -> Result<DenseDataset> {
        let size = self.preprocessing.size;
        let data = match (&self.origin, source) {
            (Origin::Run(_, run), None) => run.data.clone(),
            (Origin::Run(_, run), Some(source)) => {
                let size = run.data.size;
                DataConfig::whole(source.clone(), size)
            }
            (Origin::File(..), Some(source)) => DataConfig::whole(source.clone(), size),
            (Origin::File(..), None) => {
                anyhow::bail!("an encoder file has no images of its own; give --data")
            }
        };
        open_dense_data(&data)
    }

    /// The view for evaluation, with the normalization of training.
    pub(crate) fn eval_view(&self) -> ViewSpec {
        view_of(&self.preprocessing)
    }

    /// Random crops and flips without color changes, as papers use to train classifiers.
    pub(crate) fn training_view(&self) -> ViewSpec {
        let plain = self.eval_view();
        let Some(crop) = &self.crop else { return plain };
        let mut ops = vec![crop.clone(), Op::HorizontalFlip { p: 0.5 }];
        ops.extend(plain.ops.into_iter().skip(1)); // all except the center crop
        ViewSpec { ops }
    }

    /// Random crops and flips as DINOv2 trains linear classifiers
    /// (`make_classification_train_transform`: crops from 0.08, bicubic). Of small images, whose
    /// twelfth shows little, crops are those of pretraining.
    pub(crate) fn classification_view(&self) -> ViewSpec {
        let mut view = self.training_view();
        if !self.has_small_images()
            && let Some(Op::RandomResizedCrop { scale, interpolation, .. }) = view.ops.first_mut()
        {
            (*scale, *interpolation) = ([0.08, 1.0], Interpolation::Bicubic);
        }
        view
    }

    /// The path of a result file: in the folder of the run, or next to the encoder file.
    pub(crate) fn output_path(&self, name: &str) -> PathBuf {
        match &self.origin {
            Origin::Run(folder, _) => folder.join(name),
            Origin::File(path, _) if path.is_dir() => path.join(name),
            Origin::File(path, _) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                path.with_file_name(format!("{stem}-{name}"))
            }
        }
    }
}

/// The view for evaluation of a run, normalized as its training views: for the data, or as the
/// encoder that it started from.
pub(crate) fn eval_view(config: &RunConfig, data: &Dataset) -> ViewSpec {
    let (mean, std) = config.normalization().unwrap_or((data.mean, data.std));
    view_of(&config.evaluation.preprocessing(mean, std))
}

/// The view for evaluation with this preprocessing.
pub(crate) fn view_of(preprocessing: &Preprocessing) -> ViewSpec {
    let &Preprocessing { resize, size, interpolation, mean, std, .. } = preprocessing;
    let view = presets::evaluation(resize, size);
    let mut view = view.with_normalization(mean, std);
    view.ops[0] = Op::CenterCrop { resize, size, interpolation };
    in_gray(view, preprocessing)
}

/// Converts the view to gray if the preprocessing does.
fn in_gray(mut view: ViewSpec, preprocessing: &Preprocessing) -> ViewSpec {
    if preprocessing.grayscale {
        view.ops.insert(1, Op::Grayscale { p: 1.0 });
    }
    view
}

/// Prints which weights of a file are used and which are not.
pub(crate) fn print_load_summary(found: &LoadedEncoder, path: &Path) {
    let of = match found.prefix.as_str() {
        "" => String::new(),
        prefix => format!(" ({})", prefix.trim_end_matches('.')),
    };
    eprintln!("encoder  {} from {}{of}", found.config.name(), path.display());
    let parts: Vec<String> =
        found.left_out.iter().map(|(part, tensors)| format!("{part} ({tensors})")).collect();
    if !parts.is_empty() {
        eprintln!("unused   {} (numbers of tensors in parentheses)", parts.join(", "));
    }
    for note in &found.notes {
        eprintln!("note     {note}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::methods::find;

    /// An encoder source as if from a run of this recipe.
    fn of_recipe(method: &str, recipe: &str) -> EncoderSource {
        let table = find(method).unwrap().recipe(recipe).unwrap();
        EncoderSource::of_config(Path::new("run"), table.try_into().unwrap()).unwrap()
    }

    #[test]
    fn large_vits_are_fine_tuned_with_the_views_of_mae() {
        let bicubic = |view: &ViewSpec| {
            matches!(view.ops[0], Op::CenterCrop { interpolation: Interpolation::Bicubic, .. })
        };
        for (method, recipe) in [("mae", "imagenet"), ("moco-v3", "imagenet")] {
            let trained = of_recipe(method, recipe);
            let [train, test] = trained.finetuning_views();
            let (mean, std) = train.normalization().unwrap();
            assert_eq!(train, presets::finetuning(224).with_normalization(mean, std));
            assert!(bicubic(&test), "{method}");
            assert_eq!(bicubic(&trained.eval_view()), method == "mae");
        }
        for (method, recipe) in [("mae", "shapes"), ("simclr", "imagenet")] {
            let trained = of_recipe(method, recipe);
            let views = [trained.training_view(), trained.eval_view()];
            assert_eq!(trained.finetuning_views(), views, "{method}");
        }
    }
}
