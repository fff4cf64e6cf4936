//! Complete settings of MoCo for a data set, each value with its source: TOML for the `portolan` program.

/// The built-in images on a CPU, in minutes.
pub const SHAPES: &str = include_str!("../recipes/shapes.toml");
/// The authors' CIFAR-10 demonstration.
pub const CIFAR10: &str = include_str!("../recipes/cifar10.toml");
/// MoCo v2 on ImageNet.
pub const IMAGENET: &str = include_str!("../recipes/imagenet.toml");

/// MoCo v3 on the built-in images.
pub const V3_SHAPES: &str = include_str!("../recipes/v3-shapes.toml");
/// MoCo v3 on CIFAR-10.
pub const V3_CIFAR10: &str = include_str!("../recipes/v3-cifar10.toml");
/// MoCo v3 on ImageNet.
pub const V3_IMAGENET: &str = include_str!("../recipes/v3-imagenet.toml");

/// MoCo v3's by name.
pub const ALL_V3: [(&str, &str); 3] =
    [("shapes", V3_SHAPES), ("cifar10", V3_CIFAR10), ("imagenet", V3_IMAGENET)];

/// Those of v1 and v2 by name, the one that `reproduce` runs by default first.
pub const ALL: [(&str, &str); 3] =
    [("shapes", SHAPES), ("cifar10", CIFAR10), ("imagenet", IMAGENET)];
