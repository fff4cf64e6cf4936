//! A run's encoder, as a file and back.

use anyhow::{Context, Result};
use portolan_encoders::{Encoder, build};
use portolan_tensor::{Device, Vars, io};
use portolan_train::{Checkpoint, newest, optimizer};
use std::collections::BTreeMap;
use std::path::Path;

use crate::config::RunConfig;
use crate::methods;

/// The file in a run's folder that holds its encoder.
pub(crate) const FILE: &str = "encoder.safetensors";

/// The metadata of an encoder's file that say how an image is shown to it: short side and side of the view in pixels, and
/// whether it is grey, as a JSON list.
pub(crate) const VIEW: &str = "view";

/// The resolved settings of the run in this folder.
///
/// # Errors
/// When there is no run; the message says what is missing.
pub(crate) fn config_of(run: &Path) -> Result<RunConfig> {
    let path = run.join("config.toml");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("{} is not a run's folder: it has no readable config.toml", run.display())
    })?;
    toml::from_str(&text).with_context(|| format!("{} is not a run's settings", path.display()))
}

/// Writes an encoder with torchvision's names. The metadata says what torchvision's file would not: stem, view
/// and normalisation.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(encoder: &dyn Encoder, config: &RunConfig, path: &Path) -> Result<()> {
    let (mean, std) = config.normalisation().context("the views have no normalisation")?;
    let evaluation = &config.evaluation;
    let view = (evaluation.resize, evaluation.size, evaluation.grayscale);
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("encoder".to_owned(), serde_json::to_string(&config.encoder)?),
        ("method".to_owned(), config.method.clone()),
        (VIEW.to_owned(), serde_json::to_string(&view)?),
        ("mean".to_owned(), serde_json::to_string(&mean)?),
        ("std".to_owned(), serde_json::to_string(&std)?),
    ]);
    io::save(path, &encoder.vars().state(), &metadata)
}

/// The trained encoder of the run in this folder: from its `encoder.safetensors`, or from the newest
/// checkpoint of a run that is not finished.
///
/// # Errors
/// When the folder holds neither, or they do not fit its settings.
pub(crate) fn load(run: &Path, config: &RunConfig, device: Device) -> Result<Box<dyn Encoder>> {
    let encoder = build(&config.encoder, &Vars::new(device))?;
    let file = run.join(FILE);
    if file.exists() {
        let (tensors, _) = io::load(&file)?;
        io::copy_into(&encoder.vars().state(), &tensors)
            .with_context(|| format!("{} does not fit the run's settings", file.display()))?;
        return Ok(encoder);
    }
    let method = methods::build(config, device)?;
    let optimizer = optimizer(&config.training, &*method)?;
    Checkpoint::load(&newest(run)?, &config.method, &*method, &optimizer, device)?;
    let trained = method.encoder().vars().state().into_iter().collect();
    io::copy_into(&encoder.vars().state(), &trained)?;
    Ok(encoder)
}
