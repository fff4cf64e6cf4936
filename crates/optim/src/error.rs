//! What can go wrong in this crate.

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A setting or a parameter that an optimizer cannot work with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range.
    #[error("{message}")]
    Setting {
        /// The setting, as recipes call it.
        name: &'static str,
        /// What is wrong, and what is allowed.
        message: String,
    },
    /// A parameter appears twice or requires no gradient, or there are no parameters.
    #[error("{0}")]
    Parameters(String),
    /// An error of libtorch.
    #[error(transparent)]
    Tensor(#[from] portolan_tensor::Error),
}
