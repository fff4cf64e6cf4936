//! Which encoder, by name.

use crate::resnet_config::NAMES;
use crate::vit_config::SIZES;
use crate::{Encoder, ResNet, ResNetConfig, Vit, VitConfig};
use anyhow::{Result, bail, ensure};
use portolan_tensor::Vars;
use serde::{Deserialize, Serialize};

/// An encoder and how it is built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum EncoderConfig {
    /// A residual network.
    Resnet(ResNetConfig),
    /// A vision transformer.
    Vit(VitConfig),
}

impl From<ResNetConfig> for EncoderConfig {
    fn from(config: ResNetConfig) -> Self {
        EncoderConfig::Resnet(config)
    }
}

impl From<VitConfig> for EncoderConfig {
    fn from(config: VitConfig) -> Self {
        EncoderConfig::Vit(config)
    }
}

impl EncoderConfig {
    /// The encoder of this name in its usual form (see [`ResNetConfig::named`] and [`VitConfig::named`]).
    ///
    /// # Errors
    /// When the name is unknown; the message lists the known ones.
    pub fn named(name: &str) -> Result<Self> {
        let resnets: Vec<_> = NAMES.iter().map(|(known, _)| *known).collect();
        if name.starts_with("vit_") {
            return Ok(VitConfig::named(name)?.into());
        }
        if resnets.contains(&name.split("-w").next().unwrap_or_default()) {
            return Ok(ResNetConfig::named(name)?.into());
        }
        let vits: Vec<_> =
            SIZES.iter().map(|(size, _)| format!("vit_{size}_patch16_224")).collect();
        bail!(
            "unknown encoder `{name}`; known are {}, each also narrower or wider as in {}-w16, and {}, also with \
             other patches and images",
            resnets.join(", "),
            resnets[0],
            vits.join(", ")
        )
    }

    /// The name that [`EncoderConfig::named`] knows it by.
    pub fn name(&self) -> String {
        match self {
            EncoderConfig::Resnet(config) => config.name(),
            EncoderConfig::Vit(config) => config.name(),
        }
    }

    /// Into how many groups batch norms split a batch; 1 where there is nothing to split.
    pub fn batch_norm_splits(&self) -> i64 {
        match self {
            EncoderConfig::Resnet(config) => config.batch_norm_splits,
            EncoderConfig::Vit(_) => 1,
        }
    }

    /// Whether parts are run once more in the backward pass instead of keeping what it needs.
    pub fn recomputes(&self) -> bool {
        matches!(self, EncoderConfig::Vit(config) if config.recompute)
    }

    /// Whether there can be such an encoder.
    ///
    /// # Errors
    /// When a setting is out of range; the message names it.
    pub fn validate(&self) -> Result<()> {
        match self {
            EncoderConfig::Resnet(config) => config.validate(),
            EncoderConfig::Vit(config) => config.validate(),
        }
    }

    /// Refuses views of `size` pixels that the encoder cannot take.
    ///
    /// # Errors
    /// When a transformer's patch does not divide them.
    pub fn check_size(&self, size: i64) -> Result<()> {
        if let EncoderConfig::Vit(config) = self {
            ensure!(
                size > 0 && config.patch > 0 && size % config.patch == 0,
                "patches of {} pixels do not tile a view of {size}; choose a patch or a size that fits",
                config.patch
            );
        }
        Ok(())
    }
}

/// Builds the encoder, with initial values drawn from libtorch's generator.
///
/// # Errors
/// When the config describes no encoder.
pub fn build(config: &EncoderConfig, vars: &Vars) -> Result<Box<dyn Encoder>> {
    Ok(match config {
        EncoderConfig::Resnet(config) => {
            config.validate()?;
            Box::new(ResNet::new(config, vars))
        }
        EncoderConfig::Vit(config) => Box::new(Vit::new(config, vars)?),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_tensor::Device;

    #[test]
    fn names_round_trip() {
        for name in [
            "resnet18",
            "resnet34-w8",
            "resnet50-w128",
            "vit_tiny_patch16_224",
            "vit_large_patch8_32",
            "vit_w64d3h2_patch4_32",
        ] {
            assert_eq!(EncoderConfig::named(name).unwrap().name(), name);
        }
    }

    #[test]
    fn unknown_names_list_the_known() {
        let error = EncoderConfig::named("resnet99").unwrap_err().to_string();
        assert!(error.contains("resnet99") && error.contains("resnet34"), "{error}");
        assert!(error.contains("vit_tiny_patch16_224"), "{error}");
        for wrong in
            ["resnet18-wide", "vit_huge_patch16_224", "vit_tiny_16_224", "vit_tiny_patch16"]
        {
            assert!(EncoderConfig::named(wrong).unwrap_err().to_string().contains(wrong));
        }
        let none = ResNetConfig { width: 0, ..ResNetConfig::named("resnet18").unwrap() };
        assert!(build(&none.into(), &Vars::new(Device::Cpu)).is_err());
    }

    #[test]
    fn a_recipe_names_the_family_and_misspells_nothing() {
        for name in ["resnet18-w16", "vit_tiny_patch4_32"] {
            let config = EncoderConfig::named(name).unwrap();
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<EncoderConfig>(&text).unwrap(), config);
            assert!(toml::from_str::<EncoderConfig>(&format!("{text}\nwidht = 3")).is_err());
        }
    }

    #[test]
    fn views_that_patches_do_not_tile_are_refused() {
        let vit = EncoderConfig::named("vit_tiny_patch4_32").unwrap();
        assert!(vit.check_size(20).is_ok() && vit.check_size(18).is_err());
        assert!(EncoderConfig::named("resnet18").unwrap().check_size(18).is_ok());
    }
}
