//! What can go wrong.

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The size is not one that images are rendered in.
    #[error("shapes cannot be drawn {0} pixels wide: choose a size from 32 to 224")]
    Size(u32),
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
