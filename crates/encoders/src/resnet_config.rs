//! Which ResNet.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// The depths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// Two-layer blocks, 2-2-2-2 (He et al. 2015, arXiv 1512.03385, table 1).
    ResNet18,
    /// Two-layer blocks, 3-4-6-3.
    ResNet34,
    /// Three-layer bottleneck blocks, 3-4-6-3, stride on the middle layer as in torchvision.
    ResNet50,
}

/// How a ResNet begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// A 7×7 convolution of stride 2 and a 3×3 max pooling of stride 2, for 224 px.
    Imagenet,
    /// A 3×3 convolution of stride 1 and no pooling, for 32 px (SimCLR, appendix B.9).
    Cifar,
    /// A 3×3 convolution of stride 2 and no pooling: a quarter of the CIFAR stem's cost, for CPUs.
    CifarStrided,
}

/// A ResNet and how it is built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// The depth.
    pub arch: Arch,
    /// Channels of the first stage; 64 in the paper. The others have 2, 4 and 8 times as many.
    pub width: i64,
    /// How it begins.
    pub stem: Stem,
    /// Whether each residual branch starts as zero, so that blocks start as the identity (Goyal et
    /// al. 2017, arXiv 1706.02677, section 5.1).
    pub zero_init_residual: bool,
    /// Into how many groups a batch is split for batch statistics; 1 is the usual batch norm. MoCo's
    /// CIFAR-10 demonstration uses 8 to stand for the 8 GPUs of its shuffled batch norm.
    pub batch_norm_splits: i64,
}

pub(crate) const NAMES: [(&str, Arch); 3] =
    [("resnet18", Arch::ResNet18), ("resnet34", Arch::ResNet34), ("resnet50", Arch::ResNet50)];

impl ResNetConfig {
    /// The ResNet of this name in its usual form: `resnet18`, `resnet34` or `resnet50`, with `-w16`
    /// behind it for another width of the first stage.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn named(name: &str) -> Result<Self> {
        let (base, width) = match name.split_once("-w") {
            Some((base, width)) => {
                let width = width.parse().with_context(|| {
                    format!("the width in `{name}` is not a number; write {base}-w16")
                })?;
                (base, width)
            }
            None => (name, 64),
        };
        let (_, arch) = NAMES
            .iter()
            .find(|(known, _)| *known == base)
            .with_context(|| format!("there is no ResNet `{base}`"))?;
        Ok(ResNetConfig {
            arch: *arch,
            width,
            stem: Stem::Imagenet,
            zero_init_residual: false,
            batch_norm_splits: 1,
        })
    }

    /// The name that [`ResNetConfig::named`] knows it by.
    pub fn name(&self) -> String {
        let base = NAMES.iter().find(|(_, arch)| *arch == self.arch).map_or("", |(name, _)| name);
        match self.width {
            64 => base.to_owned(),
            width => format!("{base}-w{width}"),
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        ensure!(
            (1..=1024).contains(&self.width),
            "the encoder's width is {}; it must be from 1 to 1024",
            self.width
        );
        ensure!(
            self.batch_norm_splits >= 1,
            "batch_norm_splits is {}; 1 is the usual batch norm",
            self.batch_norm_splits
        );
        Ok(())
    }
}
