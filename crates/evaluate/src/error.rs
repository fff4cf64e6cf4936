//! What can go wrong in an evaluation.

use portolan_tensor::tch::TchError;
use std::error::Error as StdError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range for this data.
    #[error("{0}")]
    Setting(String),
    /// Tensors whose shapes do not fit together.
    #[error("{0}")]
    Shape(String),
    /// There are no images, none of them can be read, or there are too few.
    #[error("{0}")]
    Images(String),
    /// The protocol needs labels, and the images have none.
    #[error("{0}")]
    Unlabeled(&'static str),
    /// A label is not below the number of classes.
    #[error(
        "labels go from {least} to {greatest}, and have to be from 0 to below {classes}, the \
         number of classes"
    )]
    Labels {
        /// The smallest label.
        least: i64,
        /// The largest label.
        greatest: i64,
        /// The number of classes.
        classes: i64,
    },
    /// The encoder's features are not finite: its training diverged.
    #[error(
        "the encoder's features are not finite numbers: its training diverged, or its weights are \
         damaged"
    )]
    NotFinite,
    /// Features from which nothing can be computed, since they are not finite or too large.
    #[error("{message}")]
    Features {
        /// What cannot be computed.
        message: &'static str,
        /// The failed operation, if there was one.
        source: Option<TchError>,
    },
    /// A classifier did not converge, or fine-tuning diverged.
    #[error("{0}")]
    Diverged(String),
    /// An operation of libtorch failed.
    #[error(transparent)]
    Torch(#[from] TchError),
    /// Reading an image, or a crate that this one builds on, failed.
    #[error(transparent)]
    Dependency(Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// Wraps the error of a crate that this one builds on.
    pub(crate) fn dependency(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Error::Dependency(error.into())
    }

    pub(crate) fn features(message: &'static str) -> Self {
        Error::Features { message, source: None }
    }

    /// The message with those of its causes: `cannot read x: no such file`.
    pub(crate) fn with_causes(&self) -> String {
        let causes = std::iter::successors(self.source(), |&error| error.source());
        causes.fold(self.to_string(), |text, cause| format!("{text}: {cause}"))
    }
}

/// A result whose error is this crate's [`Error`](enum@Error).
pub type Result<T, E = Error> = std::result::Result<T, E>;
