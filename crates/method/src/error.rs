//! What can go wrong in a method.

/// The result of an operation of a method.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An invalid setting, a batch that a method cannot learn from, or an error of a crate below.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range or contradicts another. The message names it and what is allowed.
    #[error("{0}")]
    Setting(String),
    /// The settings do not have the form that the method expects.
    #[error("in the method's settings")]
    Settings(#[source] Box<toml::de::Error>),
    /// The method has no recipe of this name.
    #[error("{method} has no recipe `{name}`; it has {known}")]
    UnknownRecipe {
        /// The method.
        method: &'static str,
        /// The name that was asked for.
        name: String,
        /// The method's recipes, separated by commas.
        known: String,
    },
    /// A recipe is not valid TOML.
    #[error("the recipe {name} of {method}")]
    Recipe {
        /// The method.
        method: &'static str,
        /// The recipe.
        name: String,
        /// Where and why parsing failed.
        source: Box<toml::de::Error>,
    },
    /// The method cannot train on these views: their number or a size is wrong.
    #[error("{0}")]
    Views(String),
    /// A batch does not fit the method: in its number of views or images, or in their size.
    #[error("{0}")]
    Batch(String),
    /// A momentum encoder and the network that it follows differ in their tensors.
    #[error("{0}")]
    Mismatch(String),
    /// An error of a view.
    #[error(transparent)]
    Augment(#[from] portolan_augment::Error),
    /// An error of an encoder.
    #[error(transparent)]
    Encoders(#[from] portolan_encoders::Error),
    /// An error of a loss.
    #[error(transparent)]
    Losses(#[from] portolan_losses::Error),
    /// An error of an optimizer.
    #[error(transparent)]
    Optim(#[from] portolan_optim::Error),
    /// An error of libtorch, or of the group of processes.
    #[error(transparent)]
    Tensor(#[from] portolan_tensor::Error),
    /// An error of a method that was written outside this workspace.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Returns [`Error::Setting`] with this message unless the condition holds.
///
/// # Errors
/// When the condition does not hold.
pub fn ensure_setting(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Setting(message())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::error::Error as _;

    use crate::parse_settings;

    #[test]
    fn wrong_settings_keep_their_cause() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Settings {}
        let error = parse_settings::<Settings>("tau = 1".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "in the method's settings");
        assert!(error.source().unwrap().to_string().contains("unknown field `tau`"));
    }
}
