//! Portolan's own files: safetensors whose metadata say what an encoder is and how an image is shown to it.

use anyhow::{Context, Result, ensure};
use portolan_augment::Interpolation;
use portolan_encoders::{Encoder, EncoderConfig, Stem};
use portolan_tensor::{Tensor, io};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

use crate::Found;

/// The widest that an image is shown, in pixels; no encoder comes near it.
const MOST_PIXELS: u32 = 8192;

/// How an image is shown to an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The short side that an image is brought to, in pixels, before its middle is cut out.
    pub resize: u32,
    /// The side of the middle, in pixels.
    pub size: u32,
    /// How it is resized.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// What is taken off each channel (of pixels from 0 to 1).
    pub mean: [f32; 3],
    /// What each channel is divided by.
    pub std: [f32; 3],
    /// Whether it is shown in gray.
    #[serde(default)]
    pub grayscale: bool,
}

impl Shown {
    /// As ImageNet's images are: the middle of `size` pixels of an image whose short side is 8/7 of it (256 for 224), with
    /// ImageNet's mean and deviation; all of it where `size` is 64 or less.
    pub fn imagenet(size: u32) -> Self {
        let resize = if size > 64 { (size * 8).div_ceil(7) } else { size };
        Shown {
            resize,
            size,
            interpolation: Interpolation::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            grayscale: false,
        }
    }

    /// # Errors
    /// When no image can be shown so.
    pub(crate) fn validate(self) -> Result<Self> {
        let Shown { resize, size, std, .. } = self;
        ensure!(
            (1..=MOST_PIXELS).contains(&size) && (size..=8 * MOST_PIXELS).contains(&resize),
            "images cannot be shown {size} pixels wide, cut from a short side of {resize}"
        );
        ensure!(std.iter().all(|std| *std > 0.0), "a channel cannot be divided by {std:?}");
        Ok(self)
    }

    /// As it is usual for an encoder of which nothing else is known: 224 pixels, where its stem or patches do not say that
    /// its images are smaller.
    pub(crate) fn usual(encoder: &EncoderConfig) -> Self {
        let size = match encoder {
            EncoderConfig::Vit(vit) if vit.image < 224 || 224 % vit.patch != 0 => vit.image as u32,
            EncoderConfig::Resnet(resnet) if resnet.stem != Stem::Imagenet => 32,
            _ => 224,
        };
        Shown::imagenet(size)
    }
}

/// What a file's metadata say.
#[derive(Serialize, Deserialize)]
pub(crate) struct Described {
    pub(crate) encoder: EncoderConfig,
    pub(crate) shown: Shown,
}

const ENCODER: &str = "encoder";
const SHOWN: &str = "shown";

/// Writes an encoder that `method` trained, with torchvision's or timm's names; the metadata say what these would not.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    path: &Path,
    encoder: &dyn Encoder,
    config: &EncoderConfig,
    shown: &Shown,
    method: &str,
) -> Result<()> {
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("method".to_owned(), method.to_owned()),
        (ENCODER.to_owned(), serde_json::to_string(config)?),
        (SHOWN.to_owned(), serde_json::to_string(shown)?),
    ]);
    Ok(io::save(path, &encoder.vars().state(), &metadata)?)
}

/// What these metadata say, if they are of a file of Portolan's.
pub(crate) fn described(metadata: &BTreeMap<String, String>) -> Option<Result<Described>> {
    let encoder = metadata.get(ENCODER)?;
    let shown = metadata.get(SHOWN)?;
    Some(parse(encoder, shown).context("its description of itself is damaged"))
}

fn parse(encoder: &str, shown: &str) -> Result<Described> {
    let shown: Shown = serde_json::from_str(shown)?;
    Ok(Described { encoder: serde_json::from_str(encoder)?, shown: shown.validate()? })
}

/// # Errors
/// When its encoder is another than `named`.
pub(crate) fn found(
    described: Described,
    tensors: BTreeMap<String, Tensor>,
    named: Option<&EncoderConfig>,
) -> Result<Found> {
    let Described { encoder, shown } = described;
    if let Some(named) = named {
        let (is, named) = (encoder.name(), named.name());
        ensure!(is == named, "it says that it is {is}, not {named}; leave the name out");
    }
    Ok(Found {
        encoder,
        shown,
        tensors,
        taken: String::new(),
        left_out: Vec::new(),
        notes: Vec::new(),
    })
}
