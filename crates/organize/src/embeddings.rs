//! Normalized embeddings and their nearest neighbors.

use rayon::prelude::*;

use crate::error::{Error, Result};

/// One row per image, each of length 1, so that the dot product of two is their cosine similarity.
#[derive(Clone, Debug)]
pub struct Embeddings {
    values: Vec<f32>,
    width: usize,
}

/// An image similar to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbor {
    /// Its row.
    pub index: usize,
    /// Their cosine similarity, -1 to 1.
    pub similarity: f32,
}

impl Embeddings {
    /// Takes `values` (`[n, width]`, row after row) and scales each row to length 1. A row of zeros
    /// stays zero.
    ///
    /// # Errors
    /// When there are no rows, the values do not fill whole rows, or one is not finite.
    pub fn new(mut values: Vec<f32>, width: usize) -> Result<Self> {
        let problem = if width == 0 || values.is_empty() {
            Some("there are no embeddings to organize".to_owned())
        } else if !values.len().is_multiple_of(width) {
            Some(format!("{} values are no whole rows of {width}", values.len()))
        } else if !values.iter().all(|x| x.is_finite()) {
            Some("the embeddings are not finite numbers".to_owned())
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(Error::Embeddings(problem));
        }
        for row in values.chunks_exact_mut(width) {
            let length = dot(row, row).sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|x| *x /= length);
            }
        }
        Ok(Self { values, width })
    }

    /// The number of images.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// The width of an embedding.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The direction of image `index`, `[width]`.
    #[must_use]
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }

    /// All rows in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }
}

/// The `k` images most similar to each image, the most similar first; fewer if there are fewer
/// others.
#[must_use]
pub fn nearest(x: &Embeddings, k: usize) -> Vec<Vec<Neighbor>> {
    (0..x.len())
        .into_par_iter()
        .map(|query| {
            let mut others: Vec<Neighbor> = (0..x.len())
                .filter(|&index| index != query)
                .map(|index| Neighbor { index, similarity: dot(x.row(query), x.row(index)) })
                .collect();
            let by_similarity = |a: &Neighbor, b: &Neighbor| {
                b.similarity.total_cmp(&a.similarity).then(a.index.cmp(&b.index))
            };
            if k > 0 && k < others.len() {
                others.select_nth_unstable_by(k - 1, by_similarity);
            }
            others.truncate(k);
            others.sort_by(by_similarity);
            others
        })
        .collect()
}

/// The dot product, summed in eight lanes, which compile to vector instructions. Compilers may not
/// reorder a single running sum.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<8>();
    let (b_lanes, b_rest) = b.as_chunks::<8>();
    let mut sums = [0f32; 8];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
