//! Order in a folder of photographs that nobody labeled: groups, near-duplicates, and a gallery to look through.
//!
//! What an encoder makes of the photographs comes in as plain numbers, so the crate knows no tensors and works with
//! anybody's embeddings:
//!
//! ```
//! use portolan_organize::{Embeddings, dense_clusters, groups, nearest};
//!
//! let two_heaps: Vec<f32> =
//!     (0..40).flat_map(|i| if i % 2 == 0 { [1.0, 0.01 * i as f32] } else { [0.01 * i as f32, 1.0] }).collect();
//! let x = Embeddings::new(two_heaps, 2)?;
//! let found = groups(&x, Some(2))?;
//! assert_eq!(found.of[0], found.of[2]);
//! assert_ne!(found.of[0], found.of[1]);
//! assert_eq!(nearest(&x, 3)[0].len(), 3);
//! assert_eq!(dense_clusters(&x)?.len(), 40);
//! # anyhow::Ok(())
//! ```
//!
//! Two kinds of grouping, because each fails where the other is good: k-means ([`groups`]) puts every photograph into a
//! group, which is what one wants to leaf through; HDBSCAN ([`dense_clusters`]) names only those that lie close
//! together, and leaves the rest alone. Both are other people's well-kept code (linfa, hdbscan). Neighbors are found by
//! comparing all with all: ten thousand photographs are too few for an index to be worth its approximation.

mod density;
mod duplicates;
mod embeddings;
mod gallery;
mod groups;
mod thumbnail;

pub use density::dense_clusters;
pub use duplicates::duplicates;
pub use embeddings::{Embeddings, Neighbor, nearest};
pub use gallery::{Gallery, Photo, html};
pub use groups::{Groups, groups};
pub use thumbnail::{Fingerprint, Thumbnail};
