//! What can be wrong with a view.

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A view has no operations.
    #[error("a view has no operations: it needs a crop first and `normalize` last")]
    Empty,
    /// An operation is in the wrong place.
    #[error("operation {number} of the view: {message}")]
    Order {
        /// Which operation, counted from 1.
        number: usize,
        /// Where such an operation has to be.
        message: &'static str,
    },
    /// An operation has an impossible value.
    #[error("operation {number} of the view: {message}")]
    Setting {
        /// Which operation, counted from 1.
        number: usize,
        /// Which value, and what it has to be.
        message: String,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
