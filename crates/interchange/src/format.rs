//! How an encoder family looks in files and to other tools: what a new family describes.

use portolan_encoders::EncoderConfig;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::Result;

/// Shapes by name.
pub(crate) type Shapes = BTreeMap<String, Vec<i64>>;

/// How a family is recognized by its weights.
pub(crate) struct Weights {
    /// What the family is called.
    pub(crate) name: &'static str,
    /// Pairs of weights by which it is found in a file: the first layer's, and one that must be
    /// beside it. The first pair has the usual names.
    pub(crate) signs: &'static [[&'static str; 2]],
    /// The modules of which it consists: the beginnings of its tensors' names.
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

/// What builds an encoder in Python, and loads its weights with `strict=True`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Python {
    /// The library, in words.
    pub builder: &'static str,
    /// Whether timm builds it from [`hub_config`](crate::hub_config).
    pub timm: bool,
}
