//! Reads and writes the encoder of a run.

use anyhow::{Context, Result, bail};
use portolan::TEXT_METHODS;
use portolan_encoders::{Encoder, EncoderConfig, Vit, build};
use portolan_interchange::Preprocessing;
use portolan_method::ImageMethod;
use portolan_tensor::{Device, Vars, io};
use portolan_train::{Checkpoint, newest, optimizer};
use std::path::Path;

use crate::config::RunConfig;
use crate::config::build::build_method;

/// The encoder file in the folder of a run.
pub(crate) const FILE: &str = "encoder.safetensors";

/// The resolved settings of the run in this folder.
///
/// # Errors
/// If there is no run. The message says what is missing.
pub(crate) fn config_of(run: &Path) -> Result<RunConfig> {
    let path = run.join("config.toml");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("{} is not a run's folder: it has no readable config.toml", run.display())
    })?;
    let method = text
        .parse::<toml::Table>()
        .ok()
        .and_then(|table| table.get("method").and_then(toml::Value::as_str).map(str::to_owned));
    if let Some(method) = method.filter(|name| TEXT_METHODS.iter().any(|m| m.name == name)) {
        bail!(
            "{} is a run of {method}, which learned from text; this command is for encoders of \
             images",
            run.display()
        );
    }
    toml::from_str(&text).with_context(|| format!("{} is not a run's settings", path.display()))
}

/// The preprocessing of a run's encoder: that of its evaluation, with the normalization of its
/// views.
///
/// # Errors
/// If the views have no normalization.
pub(crate) fn preprocessing(config: &RunConfig) -> Result<Preprocessing> {
    let (mean, std) = config.normalization().context("the run's views have no normalization")?;
    Ok(config.evaluation.preprocessing(mean, std))
}

/// Writes the trained encoder of a run.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write(encoder: &dyn Encoder, config: &RunConfig, path: &Path) -> Result<()> {
    Ok(portolan_interchange::write(
        path,
        encoder,
        &config.encoder,
        &preprocessing(config)?,
        &config.method,
    )?)
}

/// Loads the trained encoder of a run from its `encoder.safetensors`, or from the newest checkpoint
/// of an unfinished run.
///
/// # Errors
/// If the folder contains neither, or they do not fit its settings.
pub(crate) fn load(run: &Path, config: &RunConfig, device: Device) -> Result<Box<dyn Encoder>> {
    let encoder = build(&config.encoder, &Vars::new(device))?;
    fill(encoder.vars(), run, config, device)?;
    Ok(encoder)
}

/// Loads the trained vision transformer of a run, for its patches and attention.
///
/// # Errors
/// Those of [`load`], and if the encoder is not a vision transformer.
pub(crate) fn load_vit(run: &Path, config: &RunConfig, device: Device) -> Result<Vit> {
    let EncoderConfig::Vit(vit) = &config.encoder else {
        bail!(
            "{} trained {}, but only a vision transformer has attention and patches; give a run \
             with one, such as --encoder vit_tiny_patch4_32",
            run.display(),
            config.encoder.name()
        )
    };
    config.encoder.validate_size(i64::from(config.evaluation.size)).context("in the evaluation")?;
    let vit = Vit::new(vit, &Vars::new(device))?;
    fill(vit.vars(), run, config, device)?;
    Ok(vit)
}

/// The encoder of a run before training.
///
/// # Errors
/// If the settings conflict.
pub(crate) fn untrained(config: &RunConfig, device: Device) -> Result<Box<dyn Encoder>> {
    let encoder = build(&config.encoder, &Vars::new(device))?;
    let method = build_method(config, device)?;
    let before = method.encoder().vars().state().into_iter().collect();
    io::copy_into(&encoder.vars().state(), &before)?;
    Ok(encoder)
}

/// Copies the trained values of the run into the tensors of an encoder.
fn fill(vars: &Vars, run: &Path, config: &RunConfig, device: Device) -> Result<()> {
    let file = run.join(FILE);
    if file.exists() {
        let (tensors, _) = io::load(&file)?;
        return io::copy_into(&vars.state(), &tensors)
            .with_context(|| format!("{} does not fit the run's settings", file.display()));
    }
    let method = load_method(run, config, device)?;
    let trained = method.encoder().vars().state().into_iter().collect();
    Ok(io::copy_into(&vars.state(), &trained)?)
}

/// Restores a method from the newest checkpoint of a run.
///
/// # Errors
/// If there is no checkpoint, or it does not fit the settings.
pub(crate) fn load_checkpoint(
    run: &Path,
    config: &RunConfig,
    method: &dyn ImageMethod,
    device: Device,
) -> Result<()> {
    let optimizer = optimizer(&config.training, method)?;
    Checkpoint::load(&newest(run)?, &config.method, method, &optimizer, device)?;
    Ok(())
}

/// Builds the method of a run from its newest checkpoint, with its heads.
///
/// # Errors
/// If there is no checkpoint, or it does not fit the settings.
pub(crate) fn load_method(
    run: &Path,
    config: &RunConfig,
    device: Device,
) -> Result<Box<dyn ImageMethod>> {
    let method = build_method(config, device)?;
    load_checkpoint(run, config, &*method, device)?;
    Ok(method)
}
