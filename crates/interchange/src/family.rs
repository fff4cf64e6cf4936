//! The encoder families that files may hold. A new family implements [`Format`] in a file of its
//! own and gets a line in each of [`FAMILIES`] and [`format`].

use portolan_encoders::EncoderConfig;

use crate::error::OrDamaged;
use crate::format::{Format, Shapes, Weights};
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

/// The encoder with these shapes, by the usual names.
///
/// # Errors
/// When it is none that Portolan can build.
pub(crate) fn recognize(shapes: &Shapes) -> Result<EncoderConfig> {
    let is_of = |family: &&Weights| shapes.contains_key(family.signs[0][0]);
    let family = FAMILIES.iter().find(is_of).or_damaged("it holds no encoder")?;
    (family.recognize)(shapes)
}
