//! Organizes a folder of unlabeled images: groups, near-duplicates, and a gallery to browse.
//!
//! Embeddings are plain numbers here, so that the crate needs no tensors and works with any
//! encoder:
//!
//! ```
//! use portolan_organize::{Embeddings, dense_clusters, groups, nearest};
//!
//! let two_clusters: Vec<f32> = (0..40)
//!     .map(|i| (i, 0.01 * i as f32))
//!     .flat_map(|(i, noise)| if i % 2 == 0 { [1.0, noise] } else { [noise, 1.0] })
//!     .collect();
//! let x = Embeddings::new(two_clusters, 2)?;
//! let found = groups(&x, Some(2))?;
//! assert_eq!(found.of[0], found.of[2]);
//! assert_ne!(found.of[0], found.of[1]);
//! assert_eq!(nearest(&x, 3)[0].len(), 3);
//! assert_eq!(dense_clusters(&x)?.len(), 40);
//! # Ok::<(), portolan_organize::Error>(())
//! ```
//!
//! There are two kinds of grouping, since each is good where the other fails. k-means ([`groups`])
//! puts every image into a group, which suits browsing. HDBSCAN ([`dense_clusters`]) finds only
//! images that lie close together, and leaves out the rest. Both come from well-maintained crates
//! (linfa, hdbscan). Neighbors are found by comparing all pairs: for ten thousand images, an
//! approximate index is not worth its errors.

mod density;
mod duplicates;
mod embeddings;
mod error;
mod gallery;
mod groups;
mod thumbnail;

pub use density::dense_clusters;
pub use duplicates::duplicates;
pub use embeddings::{Embeddings, Neighbor, nearest};
pub use error::{Error, Result};
pub use gallery::{Gallery, GalleryImage, html};
pub use groups::{Groups, groups};
pub use thumbnail::{Fingerprint, Thumbnail};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
