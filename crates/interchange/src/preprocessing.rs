//! How images are prepared for an encoder.

use portolan_augment::Interpolation;
use portolan_encoders::EncoderConfig;
use serde::{Deserialize, Serialize};

use crate::error::{damaged, ensure};
use crate::{Result, family};

/// The largest image side, in pixels, that is accepted. No encoder comes near it.
const MAX_SIZE: u32 = 8192;

/// How an image is prepared for an encoder: resized, cropped at the center and normalized.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The short side to which an image is resized, in pixels.
    pub resize: u32,
    /// The side of the center crop, in pixels.
    pub size: u32,
    /// How it is resized; bilinear by default.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// The mean that is subtracted from each channel (of pixels from 0 to 1).
    pub mean: [f32; 3],
    /// The standard deviation by which each channel is divided.
    pub std: [f32; 3],
    /// Whether the image is converted to gray; false by default.
    #[serde(default)]
    pub grayscale: bool,
}

impl Preprocessing {
    /// As usual for ImageNet, with its mean and standard deviation: the center crop of `size`
    /// pixels of an image whose short side is 8/7 of that (256 for 224). Up to 64 pixels, the whole
    /// image.
    pub fn imagenet(size: u32) -> Self {
        let resize = if size > 64 { (size * 8).div_ceil(7) } else { size };
        Preprocessing {
            resize,
            size,
            interpolation: Interpolation::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            grayscale: false,
        }
    }

    /// As usual for this encoder: 224 pixels, unless its stem or patches tell that its images are
    /// smaller.
    ///
    /// CLIP's images are normalized by the mean and deviation of its own data, and cut from a short
    /// side of their size (`_transform` in its `clip.py`). For transformers with LayerScale, those
    /// of DINOv2, DINOv3 and DeiT III, larger images are resized with bicubic interpolation
    /// (`make_classification_eval_transform` in DINOv2).
    pub(crate) fn usual(encoder: &EncoderConfig) -> Self {
        let usual = Preprocessing::imagenet(family::format(encoder).usual_size());
        match encoder {
            EncoderConfig::Vit(vit) if vit.pre_norm => Preprocessing {
                resize: usual.size,
                interpolation: Interpolation::Bicubic,
                mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
                std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
                ..usual
            },
            EncoderConfig::Vit(vit) if vit.layer_scale != 0.0 && usual.size > 64 => {
                Preprocessing { interpolation: Interpolation::Bicubic, ..usual }
            }
            _ => usual,
        }
    }

    /// # Errors
    /// When no image can be prepared like this.
    pub(crate) fn validate(&self) -> Result<()> {
        let Preprocessing { resize, size, std, .. } = self;
        ensure((1..=MAX_SIZE).contains(size) && (*size..=8 * MAX_SIZE).contains(resize), || {
            damaged(format!(
                "images cannot be shown {size} pixels wide, cut from a short side of {resize}"
            ))
        })?;
        ensure(std.iter().all(|std| *std > 0.0), || {
            damaged(format!("a channel cannot be divided by {std:?}"))
        })
    }
}
