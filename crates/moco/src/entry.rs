//! The registry entries of MoCo and MoCo v3, and their recipes.

use portolan_method::{Family, MethodEntry, MethodTraits, Recipe, parse_settings};

use crate::{Moco, MocoV3};

/// MoCo v1 and v2, for programs that list and build them.
pub const METHOD: MethodEntry = MethodEntry {
    name: "moco",
    title: "MoCo",
    traits: MethodTraits::new(Family::Contrastive).with_momentum_encoder().with_queue(),
    recipes: &[
        Recipe { name: "shapes", toml: include_str!("../recipes/shapes.toml") },
        Recipe { name: "fashion", toml: include_str!("../recipes/fashion.toml") },
        Recipe { name: "cifar10", toml: include_str!("../recipes/cifar10.toml") },
        Recipe { name: "cifar10-small", toml: include_str!("../recipes/cifar10-small.toml") },
        Recipe { name: "imagenet", toml: include_str!("../recipes/imagenet.toml") },
    ],
    build: |settings, encoder, views, device| {
        Ok(Box::new(Moco::new(parse_settings(settings)?, encoder, views, device)?))
    },
    needs_color: false,
};

/// MoCo v3, for programs that list and build it.
pub const METHOD_V3: MethodEntry = MethodEntry {
    name: "moco-v3",
    title: "MoCo v3",
    traits: MethodTraits::new(Family::Contrastive).with_momentum_encoder(),
    recipes: &[
        Recipe { name: "shapes", toml: include_str!("../recipes/v3-shapes.toml") },
        Recipe { name: "fashion", toml: include_str!("../recipes/v3-fashion.toml") },
        Recipe { name: "cifar10", toml: include_str!("../recipes/v3-cifar10.toml") },
        Recipe { name: "cifar10-small", toml: include_str!("../recipes/v3-cifar10-small.toml") },
        Recipe { name: "imagenet", toml: include_str!("../recipes/v3-imagenet.toml") },
    ],
    build: |settings, encoder, views, device| {
        Ok(Box::new(MocoV3::new(parse_settings(settings)?, encoder, views, device)?))
    },
    needs_color: false,
};
