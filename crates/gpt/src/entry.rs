//! GPT's registry entry and recipes.

use portolan_method::{Family, MethodTraits, Recipe, TextMethodEntry, parse_settings};
use serde::{Deserialize, Serialize};

use crate::Gpt;

/// A recipe's `[settings]`, which are empty: those of encoder and training are enough.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct NoSettings {}

/// GPT, for programs that list and build it.
pub const METHOD: TextMethodEntry = TextMethodEntry {
    name: "gpt",
    title: "GPT",
    traits: MethodTraits::new(Family::Reconstruction),
    masks: false,
    recipes: &[
        Recipe { name: "shakespeare", toml: include_str!("../recipes/shakespeare.toml") },
        Recipe { name: "base", toml: include_str!("../recipes/base.toml") },
    ],
    build: |settings, encoder, _vocabulary, device| {
        let NoSettings {} = parse_settings(settings)?;
        Ok(Box::new(Gpt::new(encoder, device)?))
    },
};
