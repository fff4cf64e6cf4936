//! BERT's registry entry and recipes.

use portolan_method::{Family, MethodTraits, Recipe, TextMethodEntry, parse_settings};

use crate::Bert;

/// BERT, for programs that list and build it.
pub const METHOD: TextMethodEntry = TextMethodEntry {
    name: "bert",
    title: "BERT",
    traits: MethodTraits::new(Family::Reconstruction),
    masks: true,
    recipes: &[
        Recipe { name: "shakespeare", toml: include_str!("../recipes/shakespeare.toml") },
        Recipe { name: "base", toml: include_str!("../recipes/base.toml") },
    ],
    build: |settings, encoder, vocabulary, device| {
        Ok(Box::new(Bert::new(parse_settings(settings)?, encoder, vocabulary, device)?))
    },
};
