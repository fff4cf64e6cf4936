//! Encoders as other tools keep them.

use portolan_encoders::{Encoder, EncoderConfig, Pool, PositionScaling, Positions, VitConfig};
use portolan_tensor::{Device, Tensor};
use serde_json::Value;

use crate::loaded::hub::hub_config;
use crate::loaded::transformers::preprocessor_config;
use crate::vit::layouts;
use crate::{Error, Preprocessing, Result};

/// Whose names and files an encoder is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// timm's hub layout; torchvision's names for its networks.
    Timm,
    /// The names of facebookresearch/dinov2, for vision transformers.
    Dinov2,
    /// transformers' `Dinov2Model` and `Dinov2WithRegistersModel`, for vision transformers.
    Transformers,
}

/// What a layout makes of an encoder.
#[derive(Debug)]
pub struct Exported {
    /// The tensors, on the CPU, by its names.
    pub tensors: Vec<(String, Tensor)>,
    /// The files beside the tensors, by name.
    pub files: Vec<(&'static str, Value)>,
    /// What differs there from here, a sentence each.
    pub notes: Vec<String>,
}

/// The encoder in this layout.
///
/// # Errors
/// When the layout has no such encoder; the message says what it lacks.
pub fn exported(
    layout: Layout,
    encoder: &dyn Encoder,
    config: &EncoderConfig,
    preprocessing: &Preprocessing,
) -> Result<Exported> {
    let copied = |(name, tensor): (String, Tensor)| (name, tensor.detach().to_device(Device::Cpu));
    let state = encoder.vars().state().into_iter().map(copied);
    let timm = || vec![("config.json", hub_config(config, encoder.width(), preprocessing))];
    let EncoderConfig::Vit(vit) = config else {
        return match layout {
            Layout::Timm => {
                Ok(Exported { tensors: state.collect(), files: timm(), notes: Vec::new() })
            }
            Layout::Dinov2 | Layout::Transformers => Err(Error::Unsupported(format!(
                "{} is no vision transformer, and this format has no others; write timm's layout",
                config.name()
            ))),
        };
    };
    let state = state.collect();
    let (tensors, files) = match layout {
        Layout::Timm => (layouts::timm_tensors(vit, state)?, timm()),
        Layout::Dinov2 => (layouts::dinov2_tensors(vit, state)?, Vec::new()),
        Layout::Transformers => {
            let tensors = layouts::transformers_tensors(vit, state)?;
            let described = ("config.json", layouts::transformers_config(vit));
            let prepared = ("preprocessor_config.json", preprocessor_config(preprocessing));
            (tensors, vec![described, prepared])
        }
    };
    let notes = notes(layout, vit);
    Ok(Exported { tensors: tensors.into_iter().collect(), files, notes })
}

/// What the code of these layouts computes otherwise than the encoder does here.
fn notes(layout: Layout, vit: &VitConfig) -> Vec<String> {
    let registers = vit.registers > 0;
    let (whose, theirs) = match layout {
        Layout::Timm => ("timm", PositionScaling::Antialias),
        Layout::Dinov2 | Layout::Transformers if registers => ("there", PositionScaling::Antialias),
        Layout::Dinov2 => ("DINOv2's code", PositionScaling::ScaleFactor),
        Layout::Transformers => ("transformers", PositionScaling::Size),
    };
    let mut notes = Vec::new();
    if vit.positions != Positions::Rotary && vit.position_scaling != theirs {
        notes.push(format!(
            "for images of other sizes than {0} × {0} pixels, {whose} interpolates positions by \
             {theirs:?}, and here it is {1:?}; their features differ",
            vit.image, vit.position_scaling
        ));
    }
    if layout != Layout::Timm && vit.pool == Pool::Mean {
        notes.push("the feature here is the mean of the patch tokens".to_owned());
    }
    notes
}
