//! The registry of encoder families.

use portolan_tensor::Vars;
use serde::{Deserialize, Serialize};
use std::ops::Deref;

use crate::{ConvNextConfig, Encoder, Error, Family, ResNetConfig, Result, VitConfig};

/// Declares the families, one line each.
macro_rules! families {
    ($($(#[$doc:meta])* $variant:ident($config:ty),)+) => {
        /// The settings of an encoder of any family, with the methods of [`Family`].
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "family", rename_all = "lowercase")]
        pub enum EncoderConfig {
            $($(#[$doc])* $variant($config),)+
        }

        $(impl From<$config> for EncoderConfig {
            fn from(config: $config) -> Self {
                EncoderConfig::$variant(config)
            }
        })+

        impl Deref for EncoderConfig {
            type Target = dyn Family;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(EncoderConfig::$variant(config) => config,)+
                }
            }
        }

        impl EncoderConfig {
            /// The encoder of this name with its usual settings (see [`ResNetConfig::named`],
            /// [`ConvNextConfig::named`] and [`VitConfig::named`]).
            ///
            /// # Errors
            /// When the name is unknown. The message lists the known ones.
            pub fn named(name: &str) -> Result<Self> {
                $(if let Some(config) = <$config>::parse(name) {
                    return Ok(config?.into());
                })+
                let known = Self::known_names();
                Err(Error::UnknownName(format!("unknown encoder `{name}`; known are {known}")))
            }

            /// The names that [`EncoderConfig::named`] knows, in words.
            pub fn known_names() -> String {
                [$(<$config>::known_names(),)+].join(", and ")
            }
        }
    };
}

families! {
    /// A residual network.
    Resnet(ResNetConfig),
    /// A ConvNeXt.
    ConvNext(ConvNextConfig),
    /// A vision transformer.
    Vit(VitConfig),
}

/// Builds the encoder, with initial values drawn from libtorch's generator.
///
/// # Errors
/// When a setting is out of range.
pub fn build(config: &EncoderConfig, vars: &Vars) -> Result<Box<dyn Encoder>> {
    config.build(vars)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_tensor::Device;

    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            "resnet18",
            "resnet34-w8",
            "resnet50-w128",
            "resnet152",
            "wide_resnet50_2",
            "wide_resnet101_2-w16",
            "convnext_atto",
            "convnext_base",
            "convnext_w16d1-1-2-1",
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
        for wrong in [
            "resnet18-wide",
            "convnext_giant",
            "convnext_w16d1-1-2",
            "vit_huge_patch16_224",
            "vit_tiny_16_224",
            "vit_tiny_patch16",
        ] {
            assert!(EncoderConfig::named(wrong).unwrap_err().to_string().contains(wrong));
        }
        let none = ResNetConfig { width: 0, ..ResNetConfig::named("resnet18").unwrap() };
        assert!(build(&none.into(), &Vars::new(Device::Cpu)).is_err());
    }

    #[test]
    fn a_recipe_names_the_family_and_misspells_nothing() {
        for name in ["resnet18-w16", "wide_resnet50_2", "convnext_pico", "vit_tiny_patch4_32"] {
            let config = EncoderConfig::named(name).unwrap();
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<EncoderConfig>(&text).unwrap(), config);
            assert!(toml::from_str::<EncoderConfig>(&format!("{text}\nwidht = 3")).is_err());
            let table: toml::Table = toml::from_str(&text).unwrap();
            assert!(config.size_keys().iter().all(|key| table.contains_key(*key)), "{name}");
        }
    }

    #[test]
    fn views_that_patches_do_not_tile_are_refused() {
        let vit = EncoderConfig::named("vit_tiny_patch4_32").unwrap();
        assert!(vit.validate_size(20).is_ok() && vit.validate_size(18).is_err());
        assert!(EncoderConfig::named("resnet18").unwrap().validate_size(18).is_ok());
        let convnext = EncoderConfig::named("convnext_atto").unwrap();
        assert!(convnext.validate_size(33).is_ok() && convnext.validate_size(31).is_err());
    }
}
