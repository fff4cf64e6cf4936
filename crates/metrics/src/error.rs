//! What can go wrong when metrics are read.

use std::io;
use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has lines, and none of them is a row of metrics.
    #[error(
        "{} holds no metrics: expected a JSON object with a \"step\" on every line",
        path.display()
    )]
    NoMetrics {
        /// The file.
        path: PathBuf,
    },
}

/// A result whose error is this crate's [`Error`](enum@Error).
pub type Result<T, E = Error> = std::result::Result<T, E>;
