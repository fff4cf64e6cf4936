//! DINOv2's registry entry and recipes.

use portolan_method::{Family, MethodEntry, MethodTraits, Recipe, parse_settings};

use crate::Dinov2;

/// DINOv2, for programs that list and build it.
pub const METHOD: MethodEntry = MethodEntry {
    name: "dinov2",
    title: "DINOv2",
    traits: MethodTraits::new(Family::SelfDistillation).with_momentum_encoder(),
    recipes: &[
        Recipe { name: "shapes", toml: include_str!("../recipes/shapes.toml") },
        Recipe { name: "fashion", toml: include_str!("../recipes/fashion.toml") },
        Recipe { name: "cifar10", toml: include_str!("../recipes/cifar10.toml") },
        Recipe { name: "cifar10-small", toml: include_str!("../recipes/cifar10-small.toml") },
        Recipe { name: "imagenet", toml: include_str!("../recipes/imagenet.toml") },
        Recipe { name: "imagenet-long", toml: include_str!("../recipes/imagenet-long.toml") },
        Recipe { name: "imagenet-highres", toml: include_str!("../recipes/imagenet-highres.toml") },
        Recipe { name: "continue", toml: include_str!("../recipes/continue.toml") },
    ],
    build: |settings, encoder, views, device| {
        Ok(Box::new(Dinov2::new(parse_settings(settings)?, encoder, views, device)?))
    },
    needs_color: false,
};
