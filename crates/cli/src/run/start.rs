//! Where a run starts from (`--init`): a trained encoder, or all networks of another run.

mod compare;
mod load;

use anyhow::{Context, Result};
use portolan_augment::Views;
use portolan_encoders::{EncoderConfig, ResNetConfig, VitConfig};
use portolan_interchange::LoadedEncoder;
use portolan_method::ImageMethod;
use portolan_tensor::Device;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

use crate::args::RunArgs;
use crate::config::{RunConfig, overrides};
use crate::encoder_source::{print_load_summary, run_encoder};

pub(crate) use compare::compare;
pub(crate) use load::load;

/// The encoder that a run started from, in the folder of the run.
pub(crate) const FILE: &str = "start.safetensors";

/// What a run starts from.
pub(crate) struct Start {
    path: PathBuf,
    found: LoadedEncoder,
    /// The settings of the run that it is of, if it is one.
    run: Option<RunConfig>,
}

impl Start {
    /// What the arguments, or the file of settings that they name, start from.
    ///
    /// # Errors
    /// If there is no usable encoder. The message says what is wrong.
    pub(crate) fn of(args: &RunArgs) -> Result<Option<Self>> {
        let in_file = |file: &PathBuf| -> Result<Option<PathBuf>> {
            let init =
                overrides::read(file)?.get("init").and_then(Value::as_str).map(PathBuf::from);
            Ok(init.filter(|path| !path.as_os_str().is_empty()))
        };
        let path = match (&args.init, &args.config) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(file)) => in_file(file)?,
            (None, None) => None,
        };
        path.map(|path| Self::open(&path, args.encoder.as_deref())).transpose()
    }

    /// Opens the encoder of a file, a hub folder or a run. `named` gives the architecture if the
    /// weights do not define it.
    ///
    /// # Errors
    /// As [`Start::of`].
    pub(crate) fn open(path: &Path, named: Option<&str>) -> Result<Self> {
        let of_run = path.join("config.toml").exists();
        let run = of_run.then(|| run_encoder::config_of(path)).transpose().context("in --init")?;
        let found = match &run {
            Some(run) if !path.join(run_encoder::FILE).exists() => unfinished(path, run)?,
            Some(_) => {
                LoadedEncoder::open(&path.join(run_encoder::FILE), None).context("in --init")?
            }
            None => {
                let named = named.map(EncoderConfig::named).transpose()?;
                LoadedEncoder::open(path, named.as_ref()).context("in --init")?
            }
        };
        Ok(Start { path: path.to_owned(), found, run })
    }

    /// Puts the encoder and the normalization of its images into the settings of a recipe. A named
    /// encoder (`--encoder`) stays as it is.
    ///
    /// # Errors
    /// If the settings are not those of a recipe.
    pub(crate) fn apply(&self, table: &mut Table, named: bool) -> Result<()> {
        let config: RunConfig = table.clone().try_into()?;
        if !named {
            let encoder = self.encoder(&config.encoder, config.evaluation.size);
            table.insert("encoder".to_owned(), Value::try_from(encoder)?);
        }
        let views = self.normalized(config.views);
        table.insert("views".to_owned(), Value::try_from(views)?);
        Ok(())
    }

    /// The views with the normalization that the encoder was trained with.
    pub(crate) fn normalized(&self, mut views: Vec<Views>) -> Vec<Views> {
        let (mean, std) = self.normalization();
        views.iter_mut().flat_map(|views| &mut views.ops).for_each(|op| op.normalize_by(mean, std));
        views
    }

    /// The mean and standard deviation that images are normalized by.
    pub(crate) fn normalization(&self) -> ([f32; 3], [f32; 3]) {
        (self.found.preprocessing.mean, self.found.preprocessing.std)
    }

    /// The encoder, with what concerns only training from `recipe`. Where the images of the run
    /// have a larger side, in pixels, than its own, its position embeddings grow once.
    pub(crate) fn encoder(&self, recipe: &EncoderConfig, size: u32) -> EncoderConfig {
        match (&self.found.config, recipe) {
            (EncoderConfig::Vit(own), EncoderConfig::Vit(recipe)) => VitConfig {
                image: own.image.max(i64::from(size) / own.patch * own.patch),
                mask_token: own.mask_token || recipe.mask_token,
                frozen_patches: recipe.frozen_patches,
                drop_path: recipe.drop_path,
                drop_path_uniform: recipe.drop_path_uniform,
                init: recipe.init,
                recompute: recipe.recompute,
                ..own.clone()
            }
            .into(),
            (EncoderConfig::Resnet(own), EncoderConfig::Resnet(recipe)) => ResNetConfig {
                zero_init_residual: recipe.zero_init_residual,
                batch_norm_splits: recipe.batch_norm_splits,
                ..own.clone()
            }
            .into(),
            (own, _) => own.clone(),
        }
    }

    /// The method's settings of the run that this is, if it is a run of `method`.
    pub(crate) fn settings_of(&self, method: &str) -> Option<&Table> {
        self.run.as_ref().filter(|run| run.method == method).map(|run| &run.settings)
    }

    /// Prints what was found.
    pub(crate) fn print(&self) {
        print_load_summary(&self.found, &self.path);
    }
}

/// The encoder of a run that has a checkpoint alone.
fn unfinished(path: &Path, run: &RunConfig) -> Result<LoadedEncoder> {
    let method = run_encoder::load_method(path, run, Device::Cpu).context("in --init")?;
    let tensors: BTreeMap<_, _> = method.encoder().vars().state().into_iter().collect();
    Ok(LoadedEncoder {
        config: run.encoder.clone(),
        preprocessing: run_encoder::preprocessing(run)?,
        tensors,
        prefix: String::new(),
        left_out: Vec::new(),
        notes: vec!["the run is not finished; its newest checkpoint is used".to_owned()],
    })
}

/// Writes the encoder that training starts from to the folder of the run.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write(method: &dyn ImageMethod, config: &RunConfig, folder: &Path) -> Result<()> {
    run_encoder::write(method.encoder(), config, &folder.join(FILE))
}
