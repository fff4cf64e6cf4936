//! Complete settings of each task for a data set, each value with its source: TOML for the `portolan` program.

/// Of rotation prediction by name, the one that `reproduce` runs by default first.
pub const ROTATION: [(&str, &str); 3] = [
    ("shapes", include_str!("../recipes/rotation-shapes.toml")),
    ("cifar10", include_str!("../recipes/rotation-cifar10.toml")),
    ("imagenet", include_str!("../recipes/rotation-imagenet.toml")),
];

/// Of jigsaw puzzles.
pub const JIGSAW: [(&str, &str); 3] = [
    ("shapes", include_str!("../recipes/jigsaw-shapes.toml")),
    ("cifar10", include_str!("../recipes/jigsaw-cifar10.toml")),
    ("imagenet", include_str!("../recipes/jigsaw-imagenet.toml")),
];

/// Of colorization.
pub const COLORIZATION: [(&str, &str); 3] = [
    ("shapes", include_str!("../recipes/colorization-shapes.toml")),
    ("cifar10", include_str!("../recipes/colorization-cifar10.toml")),
    ("imagenet", include_str!("../recipes/colorization-imagenet.toml")),
];
