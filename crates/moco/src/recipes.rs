//! Complete settings of MoCo for a data set, each value with its source: TOML for the `portolan` program.

/// The built-in images on a CPU, in minutes.
pub const SHAPES: &str = include_str!("../recipes/shapes.toml");
/// The authors' CIFAR-10 demonstration.
pub const CIFAR10: &str = include_str!("../recipes/cifar10.toml");
/// MoCo v2 on ImageNet.
pub const IMAGENET: &str = include_str!("../recipes/imagenet.toml");

/// All of them by name, the one that `reproduce` runs by default first.
pub const ALL: [(&str, &str); 3] =
    [("shapes", SHAPES), ("cifar10", CIFAR10), ("imagenet", IMAGENET)];
