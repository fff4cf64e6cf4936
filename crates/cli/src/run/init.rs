//! `--init`: starts a method from a trained encoder.

use anyhow::{Context, Result, ensure};
use portolan_interchange::LoadedEncoder;
use portolan_method::ImageMethod;
use portolan_tensor::Tensor;
use std::collections::BTreeSet;
use std::path::Path;

use crate::config::{RunConfig, teacher};
use crate::encoder_source::print_load_summary;
use crate::encoder_source::run_encoder::FILE;

/// Copies the encoder at `path` (a file, a hub folder or the folder of a run) into all encoders of
/// the method, including its momentum encoder.
///
/// # Errors
/// If there is no encoder, or it differs from that of the run.
pub(crate) fn start_from(path: &Path, config: &RunConfig, method: &dyn ImageMethod) -> Result<()> {
    let file = match path.join(FILE) {
        of_a_run if of_a_run.exists() => of_a_run,
        _ => path.to_owned(),
    };
    let found = LoadedEncoder::open(&file, Some(&config.encoder)).context("in --init")?;
    print_load_summary(&found, &file);
    let names: Vec<String> =
        method.encoder().vars().state().into_iter().map(|(name, _)| name).collect();
    let state = method.state();
    let all: BTreeSet<&str> = state.iter().map(|(name, _)| name.as_str()).collect();
    let first = names.first().context("the encoder has no weights")?;
    let mut initialized = Vec::new();
    for prefix in all.iter().filter_map(|name| name.strip_suffix(first.as_str())) {
        if teacher::is_teacher(prefix, config) {
            continue;
        }
        // A decoder also has blocks, but not all tensors of an encoder.
        if !names.iter().all(|name| all.contains(format!("{prefix}{name}").as_str())) {
            continue;
        }
        let encoder: Vec<(String, Tensor)> = state
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)))
            .filter(|(name, _)| names.iter().any(|known| known == name))
            .map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()))
            .collect();
        found.copy_into(&encoder, &config.encoder)?;
        initialized.push(prefix.trim_end_matches('.'));
    }
    ensure!(
        !initialized.is_empty(),
        "--init does not support {}: it has no encoder of this form",
        config.method
    );
    eprintln!("init     {}", initialized.join(", "));
    Ok(())
}
