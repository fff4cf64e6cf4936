//! GPT's registry entry and recipes.

use portolan_method::{Family, MethodTraits, Recipe, TextMethodEntry, parse_settings};

use crate::Gpt;

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
        Ok(Box::new(Gpt::new(parse_settings(settings)?, encoder, device)?))
    },
};
