//! The registry entry of a method, which programs use to list, configure and build it.

use portolan_augment::ViewSpec;
use portolan_encoders::EncoderConfig;
use portolan_metrics::MethodTraits;
use portolan_tensor::Device;
use serde::de::DeserializeOwned;

use crate::{Error, ImageMethod, Result};

/// What a program needs in order to list, configure and build an image method.
///
/// Each method's crate defines one. Help texts, tables, tests and `portolan doctor` read it.
#[derive(Clone, Copy, Debug)]
pub struct MethodEntry {
    /// The name on the command line and in settings: `moco-v3`.
    pub name: &'static str,
    /// The name in running text: `MoCo v3`.
    pub title: &'static str,
    /// What the doctor needs to know about the method.
    pub traits: MethodTraits,
    /// Complete settings for each data set, the default first.
    pub recipes: &'static [Recipe],
    /// Builds the method from its settings, the encoder, the views and the device.
    pub build: fn(toml::Table, &EncoderConfig, Vec<ViewSpec>, Device) -> Result<BoxedMethod>,
    /// Whether the method cannot learn from gray images.
    pub needs_color: bool,
}

/// A boxed image method.
pub type BoxedMethod = Box<dyn ImageMethod>;

/// Complete settings of a method for one data set, as TOML. Each value names its source.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// The name after `--recipe`: `imagenet`.
    pub name: &'static str,
    /// The TOML text.
    pub toml: &'static str,
}

/// Reads a method's own settings.
///
/// # Errors
/// When a setting is missing, unknown or of the wrong type.
pub fn parse_settings<T: DeserializeOwned>(settings: toml::Table) -> Result<T> {
    toml::Value::Table(settings).try_into().map_err(|error| Error::Settings(Box::new(error)))
}

impl MethodEntry {
    /// The recipe of this name.
    ///
    /// # Errors
    /// When the method has none of that name; the message lists its recipes.
    pub fn recipe(&self, name: &str) -> Result<toml::Table> {
        recipe(self.name, self.recipes, name)
    }
}

/// The recipe `name` among those of `method`.
pub(crate) fn recipe(method: &'static str, recipes: &[Recipe], name: &str) -> Result<toml::Table> {
    let Some(recipe) = recipes.iter().find(|recipe| recipe.name == name) else {
        let names: Vec<_> = recipes.iter().map(|recipe| recipe.name).collect();
        let (name, known) = (name.to_owned(), names.join(", "));
        return Err(Error::UnknownRecipe { method, name, known });
    };
    recipe.toml.parse().map_err(|source| Error::Recipe {
        method,
        name: name.to_owned(),
        source: Box::new(source),
    })
}
