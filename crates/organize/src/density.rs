//! Dense clusters of images by HDBSCAN.

use hdbscan::{Hdbscan, HdbscanHyperParams};

use crate::embeddings::Embeddings;
use crate::error::{Error, Result};

/// The fewest images of a cluster: hdbscan's default.
const SMALLEST: usize = 5;

/// The cluster of each image by HDBSCAN, counted from 0, or -1 if it is close to no cluster.
///
/// # Errors
/// When the clustering fails.
pub fn dense_clusters(x: &Embeddings) -> Result<Vec<i32>> {
    if x.len() < 2 * SMALLEST {
        return Ok(vec![-1; x.len()]);
    }
    let rows: Vec<Vec<f32>> = x.rows().map(<[f32]>::to_vec).collect();
    let params = HdbscanHyperParams::builder().min_cluster_size(SMALLEST).build();
    Hdbscan::new(&rows, params).cluster_par().map_err(Error::Hdbscan)
}
