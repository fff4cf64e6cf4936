//! A run's encoder, as a file and back.

use anyhow::{Context, Result, bail};
use portolan_encoders::{Encoder, EncoderConfig, Vit, build};
use portolan_interchange::Preprocessing;
use portolan_method::ImageMethod;
use portolan_tensor::{Device, Vars, io};
use portolan_train::{Checkpoint, newest, optimizer};
use std::path::Path;

use crate::config::RunConfig;
use crate::config::build::build_method;

/// The file in a run's folder that holds its encoder.
pub(crate) const FILE: &str = "encoder.safetensors";

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

/// How images are shown to a run's encoder: as in its evaluation, normalized as in its views.
///
/// # Errors
/// When the views have no normalization.
pub(crate) fn preprocessing(config: &RunConfig) -> Result<Preprocessing> {
    let (mean, std) = config.normalization().context("the run's views have no normalization")?;
    Ok(config.evaluation.preprocessing(mean, std))
}

/// Writes an encoder that a run trained.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(encoder: &dyn Encoder, config: &RunConfig, path: &Path) -> Result<()> {
    Ok(portolan_interchange::write(
        path,
        encoder,
        &config.encoder,
        &preprocessing(config)?,
        &config.method,
    )?)
}

/// The trained encoder of the run in this folder: from its `encoder.safetensors`, or from the newest
/// checkpoint of a run that is not finished.
///
/// # Errors
/// When the folder holds neither, or they do not fit its settings.
pub(crate) fn load(run: &Path, config: &RunConfig, device: Device) -> Result<Box<dyn Encoder>> {
    let encoder = build(&config.encoder, &Vars::new(device))?;
    fill(encoder.vars(), run, config, device)?;
    Ok(encoder)
}

/// The trained encoder of a run that trained a vision transformer, for what only these have: patches and attention.
///
/// # Errors
/// As [`load`], and when the run trained another network.
pub(crate) fn load_vit(run: &Path, config: &RunConfig, device: Device) -> Result<Vit> {
    let vit = new_vit(run, config, device)?;
    fill(vit.vars(), run, config, device)?;
    Ok(vit)
}

/// The same before its training.
///
/// # Errors
/// When the run trained another network, or its settings contradict each other.
pub(crate) fn untrained_vit(run: &Path, config: &RunConfig, device: Device) -> Result<Vit> {
    let vit = new_vit(run, config, device)?;
    let method = build_method(config, device)?;
    let before = method.encoder().vars().state().into_iter().collect();
    io::copy_into(&vit.vars().state(), &before)?;
    Ok(vit)
}

fn new_vit(run: &Path, config: &RunConfig, device: Device) -> Result<Vit> {
    let EncoderConfig::Vit(vit) = &config.encoder else {
        bail!(
            "{} trained {}, and only a vision transformer has attention and patches to look at; give a run with \
             one (--encoder vit_tiny_patch4_32, for instance)",
            run.display(),
            config.encoder.name()
        )
    };
    config.encoder.validate_size(i64::from(config.evaluation.size)).context("in the evaluation")?;
    Ok(Vit::new(vit, &Vars::new(device))?)
}

/// Copies the run's trained values into an encoder's tensors.
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

/// Brings a method to where the run's newest checkpoint left it.
///
/// # Errors
/// When there is no checkpoint, or it does not fit the run's settings.
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

/// The method as the run's newest checkpoint has it, heads included.
///
/// # Errors
/// When there is no checkpoint, or it does not fit the settings.
pub(crate) fn load_method(
    run: &Path,
    config: &RunConfig,
    device: Device,
) -> Result<Box<dyn ImageMethod>> {
    let method = build_method(config, device)?;
    load_checkpoint(run, config, &*method, device)?;
    Ok(method)
}
