//! Builds the method of a run on text.

use anyhow::Result;
use portolan_method::BoxedTextMethod;
use portolan_tensor::{Device, seed};
use portolan_text::Tokens;

use super::config::TextRunConfig;
use super::corpus::vocabulary;
use super::entry_of;

/// Builds the method with initial values from the run's seed.
pub(crate) fn build(
    config: &TextRunConfig,
    tokens: &Tokens,
    device: Device,
) -> Result<BoxedTextMethod> {
    seed(config.seed);
    let vocabulary = vocabulary(tokens);
    let encoder = config.encoder.with_vocabulary(vocabulary.size);
    let entry = entry_of(&config.method)?;
    Ok((entry.build)(config.settings.clone(), &encoder, &vocabulary, device)?)
}
