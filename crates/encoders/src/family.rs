//! What an encoder family is.

use portolan_tensor::Vars;
use std::fmt::Debug;

use crate::{Encoder, Result};

/// A family of encoders: the settings of one of them, and all that other crates need to know about
/// it. A new family implements this in a file of its own and gets a line in `config.rs`.
pub trait Family: Debug {
    /// Reads a name, such as `resnet18-w16`. `None` if it is of another family.
    ///
    /// # Errors
    /// When the name is of this family, but malformed.
    fn parse(name: &str) -> Option<Result<Self>>
    where
        Self: Sized;

    /// The names that [`Family::parse`] knows, for an error message.
    fn known_names() -> String
    where
        Self: Sized;

    /// The name by which [`Family::parse`] knows this encoder.
    fn name(&self) -> String;

    /// The settings that the name determines. A name that replaces a recipe's encoder of the same
    /// family changes these and leaves the others, such as a ResNet's stem, as they are.
    fn size_keys(&self) -> &'static [&'static str];

    /// Checks that all settings are in range.
    ///
    /// # Errors
    /// When one is not. The message names it.
    fn validate(&self) -> Result<()>;

    /// Builds the network, with initial values drawn from libtorch's generator.
    ///
    /// # Errors
    /// When [`Family::validate`] fails.
    fn build(&self, vars: &Vars) -> Result<Box<dyn Encoder>>;

    /// Checks that the encoder can take images of `size` pixels a side.
    ///
    /// # Errors
    /// When a transformer's patches do not tile them, or they are too small for a ConvNeXt.
    fn validate_size(&self, _size: i64) -> Result<()> {
        Ok(())
    }

    /// The side of a transformer's patch in pixels; `None` for a convolutional network.
    fn patch(&self) -> Option<i64> {
        None
    }

    /// Whether it is a vision transformer.
    fn is_transformer(&self) -> bool {
        self.patch().is_some()
    }

    /// The number of groups into which batch norms split a batch; 1 without batch norms.
    fn batch_norm_splits(&self) -> i64 {
        1
    }

    /// Whether the backward pass recomputes activations.
    fn recomputes(&self) -> bool {
        false
    }

    /// An estimate of how many numbers the backward pass keeps per image of `side` pixels.
    fn activations(&self, side: f64) -> f64;

    /// The form in which the encoder is fine-tuned with labels, with stochastic depth up to
    /// `drop_path`; `None` if that is the form in which it was pretrained. A vision transformer is
    /// classified by its class token, or by the mean of its patches.
    fn finetuned(&self, _drop_path: f64, _class_token: bool) -> Option<Finetuned> {
        None
    }
}

/// An encoder as it is fine-tuned, and where its tensors differ from the pretrained encoder's.
#[derive(Debug)]
pub struct Finetuned {
    /// Its settings.
    pub config: Box<dyn Family>,
    /// The prefix of the pretrained tensors that it does not have, if it lacks any.
    pub dropped: Option<&'static str>,
    /// The prefix of its tensors that are new, if there are any.
    pub added: Option<&'static str>,
}
