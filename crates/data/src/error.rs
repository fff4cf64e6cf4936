//! What can go wrong.

use image::{ImageError, ImageFormat};
use parquet::errors::ParquetError;
use std::io;
use std::sync::Arc;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument has an impossible value.
    #[error("{0}")]
    Setting(String),
    /// There is nothing of this name, or nothing to read in it.
    #[error("{0}")]
    Missing(String),
    /// A file's content is not what its format, or a published checksum, says.
    #[error("{0}")]
    Damaged(String),
    /// A file may be whole, but is of a kind that this crate does not read.
    #[error("{0}")]
    Unsupported(String),
    /// The bytes of an image cannot be decoded.
    #[error("the {format:?} image cannot be decoded")]
    Decode {
        /// The format by the first bytes.
        format: ImageFormat,
        /// What the decoder says.
        source: ImageError,
    },
    /// An image cannot be encoded.
    #[error(transparent)]
    Encode(#[from] jpeg_encoder::EncodingError),
    /// A data set cannot be downloaded.
    #[error("{advice}")]
    Download {
        /// What failed, and how to get the data set by hand.
        advice: String,
        /// What went wrong.
        source: Box<Error>,
    },
    /// A server cannot be reached, or answers wrongly.
    #[error(transparent)]
    Http(Box<ureq::Error>),
    /// A Parquet file cannot be read or written.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    /// The description of a known data set cannot be parsed.
    #[error("datasets/{name}.toml is not valid")]
    Catalog {
        /// Name of the data set.
        name: &'static str,
        /// What the parser says.
        source: toml::de::Error,
    },
    /// Images of `shapes` cannot be rendered.
    #[error(transparent)]
    Shapes(#[from] portolan_shapes::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// An error of any kind, with what was being done.
    #[error("{context}")]
    Context {
        /// What was being done, such as `cannot read photos/1.jpg`.
        context: String,
        /// What went wrong.
        source: Box<Error>,
    },
    /// An error that was found once and is returned each time.
    #[error(transparent)]
    Shared(#[from] Arc<Error>),
    /// The error of a [`Source`](crate::Source) outside this crate.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<ureq::Error> for Error {
    fn from(error: ureq::Error) -> Self {
        Error::Http(Box::new(error))
    }
}

/// An error followed by its causes, on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Adds to an error what was being done.
pub(crate) trait WithContext<T> {
    fn with_context(self, context: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Error>> WithContext<T> for Result<T, E> {
    fn with_context(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Context { context: context(), source: Box::new(error.into()) })
    }
}

/// Returns an error with a formatted message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $variant:ident, $($message:tt)+) => {
        if !$condition {
            return Err($crate::Error::$variant(format!($($message)+)));
        }
    };
}
pub(crate) use ensure;
