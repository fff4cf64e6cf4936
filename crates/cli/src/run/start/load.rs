//! Copies trained weights into a method before its first step.

use anyhow::{Context, Result, ensure};
use portolan_encoders::{EncoderConfig, Positions};
use portolan_method::ImageMethod;
use portolan_tensor::{Device, Tensor, io};
use std::collections::{BTreeMap, BTreeSet};

use super::Start;
use crate::config::{RunConfig, teacher};
use crate::encoder_source::run_encoder;

/// Copies all networks of the run that is started from, if it is one of the same method with heads
/// of the same form. Otherwise copies the encoder into all encoders of the method, including its
/// momentum encoder. Returns whether the heads are trained ones.
///
/// # Errors
/// If the encoder differs from that of the run.
pub(crate) fn load(start: &Start, config: &RunConfig, method: &dyn ImageMethod) -> Result<bool> {
    start.print();
    let target = method.state();
    let names: Vec<String> =
        method.encoder().vars().state().into_iter().map(|(name, _)| name).collect();
    let mut prefixes = encoders(&target, &names)?;
    prefixes.retain(|prefix| !teacher::is_teacher(prefix, config));
    ensure!(
        !prefixes.is_empty(),
        "--init does not support {}: it has no encoder of this form",
        config.method
    );
    let fit = Fit { from: &start.found.config, to: &config.encoder };
    if let Some(all) = whole_run(start, config, &target, &fit)? {
        io::copy_into(&target, &all)?;
        eprintln!("init     all networks of {}, with their heads", start.path.display());
        fit.print_growth();
        return Ok(true);
    }
    copy_encoder(start, config, &target, &names, &prefixes, &fit)?;
    fit.print_growth();
    Ok(false)
}

/// Copies the encoder to each of its places in a method.
fn copy_encoder(
    start: &Start,
    config: &RunConfig,
    target: &[(String, Tensor)],
    names: &[String],
    prefixes: &[String],
    fit: &Fit,
) -> Result<()> {
    let mut missing_mask = false;
    for prefix in prefixes {
        let own: Vec<(String, Tensor)> = target
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix.as_str())?, tensor)))
            .filter(|(name, _)| names.iter().any(|known| known == name))
            .map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()))
            .collect();
        missing_mask = own.iter().any(|(name, _)| fit.is_new_mask(name, &start.found.tensors));
        match fit.all(&own, &start.found.tensors)? {
            Some(fitted) => io::copy_into(&own, &fitted)?,
            // Names the tensor that does not fit.
            None => start.found.copy_into(&own, &config.encoder).context("in --init")?,
        }
    }
    let prefixes: Vec<&str> = prefixes.iter().map(|prefix| prefix.trim_end_matches('.')).collect();
    eprintln!("init     {}", prefixes.join(", "));
    if missing_mask {
        eprintln!(
            "note     the weights have no mask token; one of zeros was added, as DINOv2 begins"
        );
    }
    Ok(())
}

/// The prefixes of the encoders in a method's state, one of which has tensors of these names.
fn encoders(state: &[(String, Tensor)], names: &[String]) -> Result<Vec<String>> {
    let all: BTreeSet<&str> = state.iter().map(|(name, _)| name.as_str()).collect();
    let first = names.first().context("the encoder has no weights")?;
    // A decoder also has blocks, but not all tensors of an encoder.
    let is_encoder =
        |prefix: &&str| names.iter().all(|name| all.contains(format!("{prefix}{name}").as_str()));
    let prefixes = all.iter().filter_map(|name| name.strip_suffix(first.as_str()));
    Ok(prefixes.filter(is_encoder).map(str::to_owned).collect())
}

/// The state of the run that is started from, if it is one of the same method and all of it fits.
fn whole_run(
    start: &Start,
    config: &RunConfig,
    target: &[(String, Tensor)],
    fit: &Fit,
) -> Result<Option<BTreeMap<String, Tensor>>> {
    let Some(run) = start.run.as_ref().filter(|run| run.method == config.method) else {
        return Ok(None);
    };
    if portolan_train::checkpoints(&start.path)?.is_empty() {
        return Ok(None); // only the encoder was kept
    }
    let trained = run_encoder::load_method(&start.path, run, Device::Cpu).context("in --init")?;
    let state: BTreeMap<String, Tensor> = trained.state().into_iter().collect();
    let known: BTreeSet<&str> = target.iter().map(|(name, _)| name.as_str()).collect();
    let mut fitted = fit.all(target, &state)?;
    if state.keys().any(|name| !known.contains(name.as_str())) {
        fitted = None;
    }
    if fitted.is_none() {
        eprintln!(
            "note     the heads of {} have another form than those of this run, which begin anew",
            start.path.display()
        );
    }
    Ok(fitted)
}

/// Fits the tensors of one encoder to another, which may be for larger images or have a mask token.
struct Fit<'a> {
    from: &'a EncoderConfig,
    to: &'a EncoderConfig,
}

impl Fit<'_> {
    /// The values for all of these tensors; `None` if one has none.
    fn all(
        &self,
        target: &[(String, Tensor)],
        source: &BTreeMap<String, Tensor>,
    ) -> Result<Option<BTreeMap<String, Tensor>>> {
        let one = |(name, tensor): &(String, Tensor)| -> Result<Option<(String, Tensor)>> {
            Ok(self.one(name, tensor, source)?.map(|values| (name.clone(), values)))
        };
        let all: Vec<Option<(String, Tensor)>> = target.iter().map(one).collect::<Result<_>>()?;
        Ok(all.into_iter().collect())
    }

    fn one(
        &self,
        name: &str,
        target: &Tensor,
        source: &BTreeMap<String, Tensor>,
    ) -> Result<Option<Tensor>> {
        let Some(found) = source.get(name) else {
            return Ok(self.is_new_mask(name, source).then(|| target.zeros_like()));
        };
        if found.size() == target.size() {
            return Ok(Some(found.shallow_clone()));
        }
        let (EncoderConfig::Vit(from), EncoderConfig::Vit(to)) = (self.from, self.to) else {
            return Ok(None);
        };
        if !name.ends_with("pos_embed") || from.patch != to.patch {
            return Ok(None);
        }
        if to.positions == Positions::SineCosine {
            return Ok(Some(target.detach().copy())); // fixed, and made for their size
        }
        Ok(Some(from.positions_for(found, to.image).context("in --init")?))
    }

    /// Says so if position embeddings were interpolated.
    fn print_growth(&self) {
        let (EncoderConfig::Vit(from), EncoderConfig::Vit(to)) = (self.from, self.to) else {
            return;
        };
        if from.image != to.image && from.positions == Positions::Learned {
            let (from, to) = (from.image, to.image);
            eprintln!(
                "note     position embeddings for images of {from} px were interpolated to {to} px"
            );
        }
    }

    /// Whether this is a mask token that `source` lacks.
    fn is_new_mask(&self, name: &str, source: &BTreeMap<String, Tensor>) -> bool {
        name.ends_with("mask_token") && !source.contains_key(name)
    }
}
