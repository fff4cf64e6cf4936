//! Which encoder, by name.

use crate::{Encoder, ResNet};
use anyhow::{Context, Result, bail, ensure};
use portolan_tensor::Vars;
use serde::{Deserialize, Serialize};

/// The families of encoders.
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

/// An encoder and how it is built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// The family.
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

const NAMES: [(&str, Arch); 3] =
    [("resnet18", Arch::ResNet18), ("resnet34", Arch::ResNet34), ("resnet50", Arch::ResNet50)];

impl EncoderConfig {
    /// The encoder of this name in its usual form: `resnet18`, `resnet34` or `resnet50`, with `-w16`
    /// behind it for another width of the first stage.
    ///
    /// # Errors
    /// When the name is unknown; the message lists the known ones.
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
        let Some((_, arch)) = NAMES.iter().find(|(known, _)| *known == base) else {
            let known: Vec<_> = NAMES.iter().map(|(known, _)| *known).collect();
            bail!(
                "unknown encoder `{name}`; known are {}, each also narrower or wider as in {}-w16",
                known.join(", "),
                known[0]
            );
        };
        Ok(EncoderConfig {
            arch: *arch,
            width,
            stem: Stem::Imagenet,
            zero_init_residual: false,
            batch_norm_splits: 1,
        })
    }

    /// The name that [`EncoderConfig::named`] knows it by.
    pub fn name(&self) -> String {
        let base = NAMES.iter().find(|(_, arch)| *arch == self.arch).map_or("", |(name, _)| name);
        match self.width {
            64 => base.to_owned(),
            width => format!("{base}-w{width}"),
        }
    }
}

/// Builds the encoder, with initial values drawn from libtorch's generator.
///
/// # Errors
/// When the config describes no encoder.
pub fn build(config: &EncoderConfig, vars: &Vars) -> Result<Box<dyn Encoder>> {
    ensure!(
        (1..=1024).contains(&config.width),
        "the encoder's width is {}; it must be from 1 to 1024",
        config.width
    );
    ensure!(
        config.batch_norm_splits >= 1,
        "batch_norm_splits is {}; 1 is the usual batch norm",
        config.batch_norm_splits
    );
    Ok(Box::new(ResNet::new(config, vars)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["resnet18", "resnet34-w8", "resnet50-w128"] {
            assert_eq!(EncoderConfig::named(name).unwrap().name(), name);
        }
    }

    #[test]
    fn unknown_names_list_the_known() {
        let error = EncoderConfig::named("resnet99").unwrap_err().to_string();
        assert!(error.contains("resnet99") && error.contains("resnet34"), "{error}");
        assert!(EncoderConfig::named("resnet18-wide").is_err());
        let none = EncoderConfig { width: 0, ..EncoderConfig::named("resnet18").unwrap() };
        assert!(build(&none, &Vars::new(portolan_tensor::Device::Cpu)).is_err());
    }
}
