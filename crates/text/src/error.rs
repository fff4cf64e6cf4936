//! What can go wrong in this crate.

use std::path::PathBuf;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Text that cannot be read or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no text, or not enough. The message says what is missing.
    #[error("{0}")]
    Missing(String),
    /// A file is damaged or has another form than its name says.
    #[error("{0}")]
    Damaged(String),
    /// A setting is out of range. The message names it and what is allowed.
    #[error("{0}")]
    Setting(String),
    /// An error of the tokenizer.
    #[error("the tokenizer {action}")]
    Tokenizer {
        /// What it failed to do.
        action: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
