//! What can go wrong in this crate.

use portolan_tensor::tch::TchError;
use std::path::{Path, PathBuf};

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A file whose encoder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no encoder at this path.
    #[error("{0}")]
    Missing(String),
    /// The encoder in a file or folder cannot be used.
    #[error("{} cannot be used", path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: Box<Error>,
    },
    /// A file is cut short, malformed, or contradicts itself.
    #[error("{message}")]
    Damaged {
        /// What is wrong.
        message: String,
        /// The error behind it, if any.
        source: Option<Source>,
    },
    /// A checkpoint would have Python call a function that no checkpoint needs.
    #[error(
        "it would have Python call `{0}`, which no checkpoint needs; nothing was executed. \
         Where you trust the file, load it in Python and write its weights as safetensors"
    )]
    Unsafe(String),
    /// The file holds an encoder, or a type of number, that is not known here.
    #[error("{0}")]
    Unsupported(String),
    /// The file holds another encoder than was asked for.
    #[error("{message}")]
    WrongEncoder {
        /// What it is, and what was asked for.
        message: String,
        /// The tensor that does not fit, if that is how it was found.
        source: Option<Source>,
    },
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An opened file could not be read further.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A zip archive is malformed.
    #[error(transparent)]
    Zip(#[from] zip::result::ZipError),
    /// A description in JSON is malformed.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The settings describe no encoder.
    #[error(transparent)]
    Encoder(#[from] portolan_encoders::Error),
    /// A file of tensors is malformed, or does not fit.
    #[error(transparent)]
    Tensor(#[from] portolan_tensor::Error),
    /// An operation of libtorch failed.
    #[error(transparent)]
    Torch(#[from] TchError),
}

impl Error {
    /// The same error, with the file or folder that cannot be used because of it.
    pub(crate) fn of(self, path: &Path) -> Error {
        Error::Unusable { path: path.to_owned(), source: Box::new(self) }
    }
}

pub(crate) fn damaged(message: impl Into<String>) -> Error {
    Error::Damaged { message: message.into(), source: None }
}

/// An error unless a condition holds.
pub(crate) fn ensure(holds: bool, error: impl FnOnce() -> Error) -> Result<()> {
    if holds { Ok(()) } else { Err(error()) }
}

/// What a missing value or an error means: the file is damaged.
pub(crate) trait OrDamaged<T> {
    fn or_damaged(self, message: impl Into<String>) -> Result<T>;
}

impl<T> OrDamaged<T> for Option<T> {
    fn or_damaged(self, message: impl Into<String>) -> Result<T> {
        self.ok_or_else(|| damaged(message))
    }
}

impl<T, E: Into<Source>> OrDamaged<T> for std::result::Result<T, E> {
    fn or_damaged(self, message: impl Into<String>) -> Result<T> {
        self.map_err(|error| Error::Damaged { message: message.into(), source: Some(error.into()) })
    }
}
