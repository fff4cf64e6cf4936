//! What can go wrong in this crate.

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An encoder that cannot be built, or images that it cannot take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No encoder has this name. The message lists the known ones.
    #[error("{0}")]
    UnknownName(String),
    /// A setting is out of range. The message names it and what is allowed.
    #[error("{0}")]
    Setting(String),
    /// A vision transformer's patches do not tile images of this size.
    #[error("{0}")]
    ImageSize(String),
    /// Token ids that a text encoder cannot take.
    #[error("{0}")]
    Tokens(String),
    /// An error of libtorch.
    #[error(transparent)]
    Tensor(#[from] portolan_tensor::Error),
}
