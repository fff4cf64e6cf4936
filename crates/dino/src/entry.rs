//! DINO's registry entry and recipes.

use portolan_method::{Family, MethodEntry, MethodTraits, Recipe, parse_settings};

use crate::Dino;

/// DINO, for programs that list and build it.
pub const METHOD: MethodEntry = MethodEntry {
    name: "dino",
    title: "DINO",
    traits: MethodTraits::new(Family::SelfDistillation).with_momentum_encoder(),
    recipes: &[
        Recipe { name: "shapes", toml: include_str!("../recipes/shapes.toml") },
        Recipe { name: "fashion", toml: include_str!("../recipes/fashion.toml") },
        Recipe { name: "shapes-vit", toml: include_str!("../recipes/shapes-vit.toml") },
        Recipe { name: "cifar10", toml: include_str!("../recipes/cifar10.toml") },
        Recipe { name: "cifar10-small", toml: include_str!("../recipes/cifar10-small.toml") },
        Recipe { name: "imagenet", toml: include_str!("../recipes/imagenet.toml") },
    ],
    build: |settings, encoder, views, device| {
        Ok(Box::new(Dino::new(parse_settings(settings)?, encoder, views, device)?))
    },
    needs_color: false,
};
