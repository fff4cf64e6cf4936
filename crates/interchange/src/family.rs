//! The encoder families that files may hold. A new family implements [`Format`] in a file of its
//! own and gets a line in each of [`FAMILIES`] and [`format`].

use portolan_encoders::EncoderConfig;
use portolan_tensor::Tensor;
use std::collections::BTreeMap;

use crate::format::{Format, Selected, Weights};
use crate::{Result, convnext, resnet, vit};

/// The families.
pub(crate) static FAMILIES: [Weights; 3] = [resnet::WEIGHTS, convnext::WEIGHTS, vit::WEIGHTS];

pub(crate) fn format(encoder: &EncoderConfig) -> &dyn Format {
    match encoder {
        EncoderConfig::Resnet(config) => config,
        EncoderConfig::ConvNext(config) => config,
        EncoderConfig::Vit(config) => config,
    }
}

/// The settings that a name or a config gives, where the weights of the `found` encoder do not say
/// otherwise.
pub(crate) fn completed(
    named: &EncoderConfig,
    found: &EncoderConfig,
    selected: &Selected,
) -> EncoderConfig {
    match (named, found) {
        (EncoderConfig::Vit(named), EncoderConfig::Vit(found)) => {
            vit::completed(named, found, selected).into()
        }
        _ => named.clone(),
    }
}

/// Brings tensors into the form of these settings where that changes no features, and notes it.
pub(crate) fn reconcile(
    encoder: &EncoderConfig,
    tensors: &mut BTreeMap<String, Tensor>,
    notes: &mut Vec<String>,
) -> Result<()> {
    match encoder {
        EncoderConfig::Vit(config) => vit::reconcile(config, tensors, notes),
        _ => Ok(()),
    }
}
