//! What each encoder family looks like in files, and to Python. A new family implements [`Format`]
//! in a file of its own and gets a line in each of [`FAMILIES`] and [`format`].

use portolan_encoders::EncoderConfig;
use serde_json::Value;

use crate::error::OrDamaged;
use crate::names::Shapes;
use crate::{Python, Result, resnet, vit};

/// The families.
pub(crate) static FAMILIES: [Weights; 2] = [resnet::WEIGHTS, vit::WEIGHTS];

pub(crate) fn format(encoder: &EncoderConfig) -> &dyn Format {
    match encoder {
        EncoderConfig::Resnet(config) => config,
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

/// How a family is recognized by its weights.
pub(crate) struct Weights {
    /// What the family is called.
    pub(crate) name: &'static str,
    /// Pairs of weights by which it is found in a file: the first layer's, and one that must be
    /// beside it. The first pair has the usual names.
    pub(crate) signs: &'static [[&'static str; 2]],
    /// The first components of its tensors' names.
    pub(crate) parts: &'static [&'static str],
    /// The usual name of a tensor that authors also give another one.
    pub(crate) rename: fn(&str) -> Option<String>,
    /// The encoder with these shapes. What shapes do not tell is assumed as usual.
    pub(crate) recognize: fn(&Shapes) -> Result<EncoderConfig>,
}

/// How an encoder of a family appears to other tools.
pub(crate) trait Format {
    /// Settles what weights do not tell, and says what was assumed. `prefix` is what precedes their
    /// names in the file.
    fn assume(&self, prefix: &str) -> (EncoderConfig, Option<String>);

    /// The usual side of its images in pixels, unless a file says.
    fn usual_size(&self) -> u32;

    /// A lower bound of how many numbers it has: those of its matrices and position embeddings.
    fn min_numbers(&self) -> i64;

    /// How timm builds it.
    fn timm(&self) -> Timm;

    /// The encoder with the settings that a hub folder's config of timm adds to its name; `None` if
    /// the weights tell all of it.
    fn with_timm_config(&self, _config: &Value) -> Option<EncoderConfig> {
        None
    }

    /// What builds it in Python.
    fn python(&self) -> Python;
}

/// An encoder's entries in timm's `config.json`.
pub(crate) struct Timm {
    pub(crate) architecture: String,
    pub(crate) global_pool: &'static str,
    pub(crate) model_args: Option<Value>,
    pub(crate) first_conv: &'static str,
    pub(crate) classifier: &'static str,
}
