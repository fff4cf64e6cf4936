//! VICReg's registry entry and recipes.

use portolan_method::{Family, MethodEntry, MethodTraits, Recipe, parse_settings};

use crate::Vicreg;

/// VICReg, for programs that list and build it.
pub const METHOD: MethodEntry = MethodEntry {
    name: "vicreg",
    title: "VICReg",
    traits: MethodTraits::new(Family::RedundancyReduction),
    recipes: &[
        Recipe { name: "shapes", toml: include_str!("../recipes/shapes.toml") },
        Recipe { name: "fashion", toml: include_str!("../recipes/fashion.toml") },
        Recipe { name: "cifar10", toml: include_str!("../recipes/cifar10.toml") },
        Recipe { name: "cifar10-small", toml: include_str!("../recipes/cifar10-small.toml") },
        Recipe { name: "imagenet", toml: include_str!("../recipes/imagenet.toml") },
    ],
    build: |settings, encoder, views, device| {
        Ok(Box::new(Vicreg::new(parse_settings(settings)?, encoder, views, device)?))
    },
    needs_color: false,
};
