//! SimSiam's registry entry and recipes.

use portolan_method::{Family, MethodEntry, MethodTraits, Recipe, parse_settings};

use crate::Simsiam;

/// SimSiam, for programs that list and build it.
pub const METHOD: MethodEntry = MethodEntry {
    name: "simsiam",
    title: "SimSiam",
    traits: MethodTraits::new(Family::SelfDistillation),
    recipes: &[
        Recipe { name: "shapes", toml: include_str!("../recipes/shapes.toml") },
        Recipe { name: "fashion", toml: include_str!("../recipes/fashion.toml") },
        Recipe { name: "cifar10", toml: include_str!("../recipes/cifar10.toml") },
        Recipe { name: "cifar10-small", toml: include_str!("../recipes/cifar10-small.toml") },
        Recipe { name: "imagenet", toml: include_str!("../recipes/imagenet.toml") },
    ],
    build: |settings, encoder, views, device| {
        Ok(Box::new(Simsiam::new(parse_settings(settings)?, encoder, views, device)?))
    },
    needs_color: false,
};
