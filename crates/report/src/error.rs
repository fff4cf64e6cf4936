//! What can go wrong when a report is read or written.

use std::io;
use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A run's `report.json` cannot be read.
    #[error("cannot read {}: is this the folder of a finished run?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a report.
    #[error("{} is not a report of Portolan's", path.display())]
    NotAReport {
        /// The file.
        path: PathBuf,
        /// Where it differs from one.
        source: serde_json::Error,
    },
    /// A report or a page cannot be written.
    #[error("cannot write {}: is there space, and may you write there?", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The report cannot be written as JSON.
    #[error("the report is not JSON")]
    Serialize(#[source] serde_json::Error),
    /// An image of the page cannot be encoded: it has no pixels.
    #[error("cannot encode {image}")]
    Image {
        /// Which one.
        image: String,
        /// Why.
        source: image::ImageError,
    },
}

impl Error {
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Error::Write { path: path.to_owned(), source }
    }
}

/// A result whose error is this crate's [`Error`](enum@Error).
pub type Result<T, E = Error> = std::result::Result<T, E>;
