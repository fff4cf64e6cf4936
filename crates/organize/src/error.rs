//! What can go wrong when images are organized.

use hdbscan::HdbscanError;
use linfa_clustering::{KMeansError, KMeansParamsError};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Embeddings that are empty, incomplete or not finite.
    #[error("{0}")]
    Embeddings(String),
    /// A number of groups that is impossible for this many images.
    #[error("{0}")]
    Groups(String),
    /// k-means failed.
    #[error("k-means failed")]
    KMeans(#[from] KMeansError),
    /// k-means cannot run with these parameters.
    #[error(transparent)]
    KMeansParameters(#[from] KMeansParamsError),
    /// The silhouette of a grouping cannot be computed.
    #[error(transparent)]
    Silhouette(#[from] linfa::Error),
    /// HDBSCAN failed.
    #[error("HDBSCAN failed: {0}")]
    Hdbscan(HdbscanError),
    /// A thumbnail cannot be encoded: the image has no pixels.
    #[error("cannot make a thumbnail")]
    Thumbnail(#[source] image::ImageError),
    /// The gallery's data cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// A result whose error is this crate's [`Error`](enum@Error).
pub type Result<T, E = Error> = std::result::Result<T, E>;
