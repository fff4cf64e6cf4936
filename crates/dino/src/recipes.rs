//! Complete settings of DINO for a data set, each value with its source: TOML for the `portolan` program.

/// The built-in images on a CPU, in minutes.
pub const SHAPES: &str = include_str!("../recipes/shapes.toml");
/// The built-in images with a vision transformer, whose class token learns to look at the object.
pub const SHAPES_VIT: &str = include_str!("../recipes/shapes-vit.toml");
/// CIFAR-10.
pub const CIFAR10: &str = include_str!("../recipes/cifar10.toml");
/// ImageNet, as in the paper.
pub const IMAGENET: &str = include_str!("../recipes/imagenet.toml");

/// All of them by name, the one that `reproduce` runs by default first.
pub const ALL: [(&str, &str); 4] =
    [("shapes", SHAPES), ("shapes-vit", SHAPES_VIT), ("cifar10", CIFAR10), ("imagenet", IMAGENET)];
