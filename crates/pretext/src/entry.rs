//! The registry entries of the three tasks, and their recipes.

use portolan_method::{Family, MethodEntry, MethodTraits, Recipe, parse_settings};

use crate::{Colorization, Jigsaw, Rotation};

/// Rotation prediction, for programs that list and build it.
pub const ROTATION: MethodEntry = MethodEntry {
    name: "rotation",
    title: "Rotation prediction",
    traits: MethodTraits::new(Family::Pretext),
    recipes: &[
        Recipe { name: "shapes", toml: include_str!("../recipes/rotation-shapes.toml") },
        Recipe { name: "fashion", toml: include_str!("../recipes/rotation-fashion.toml") },
        Recipe { name: "cifar10", toml: include_str!("../recipes/rotation-cifar10.toml") },
        Recipe {
            name: "cifar10-small",
            toml: include_str!("../recipes/rotation-cifar10-small.toml"),
        },
        Recipe { name: "imagenet", toml: include_str!("../recipes/rotation-imagenet.toml") },
    ],
    build: |_, encoder, views, device| Ok(Box::new(Rotation::new(encoder, views, device)?)),
    needs_color: false,
};

/// Jigsaw puzzles, for programs that list and build them.
pub const JIGSAW: MethodEntry = MethodEntry {
    name: "jigsaw",
    title: "Jigsaw puzzles",
    traits: MethodTraits::new(Family::Pretext),
    recipes: &[
        Recipe { name: "shapes", toml: include_str!("../recipes/jigsaw-shapes.toml") },
        Recipe { name: "fashion", toml: include_str!("../recipes/jigsaw-fashion.toml") },
        Recipe { name: "cifar10", toml: include_str!("../recipes/jigsaw-cifar10.toml") },
        Recipe {
            name: "cifar10-small",
            toml: include_str!("../recipes/jigsaw-cifar10-small.toml"),
        },
        Recipe { name: "imagenet", toml: include_str!("../recipes/jigsaw-imagenet.toml") },
    ],
    build: |settings, encoder, views, device| {
        Ok(Box::new(Jigsaw::new(parse_settings(settings)?, encoder, views, device)?))
    },
    needs_color: false,
};

/// Colorization, for programs that list and build it.
pub const COLORIZATION: MethodEntry = MethodEntry {
    name: "colorization",
    title: "Colorization",
    traits: MethodTraits::new(Family::Pretext),
    recipes: &[
        Recipe { name: "shapes", toml: include_str!("../recipes/colorization-shapes.toml") },
        Recipe { name: "cifar10", toml: include_str!("../recipes/colorization-cifar10.toml") },
        Recipe {
            name: "cifar10-small",
            toml: include_str!("../recipes/colorization-cifar10-small.toml"),
        },
        Recipe { name: "imagenet", toml: include_str!("../recipes/colorization-imagenet.toml") },
    ],
    build: |settings, encoder, views, device| {
        Ok(Box::new(Colorization::new(parse_settings(settings)?, encoder, views, device)?))
    },
    needs_color: true,
};
