//! Embeddings as directions, and which of them lie nearest to each other.

use anyhow::{Result, ensure};
use rayon::prelude::*;

/// One row a photograph, each of length 1, so that a product of two is their cosine similarity.
#[derive(Clone, Debug)]
pub struct Embeddings {
    values: Vec<f32>,
    width: usize,
}

/// Another photograph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbor {
    /// Its row.
    pub index: usize,
    /// Cosine similarity of the two, -1 to 1.
    pub similarity: f32,
}

impl Embeddings {
    /// Takes `values` (`[n, width]`, row after row) and scales each row to length 1; a row of zeros stays.
    ///
    /// # Errors
    /// When there are no rows, the values do not fill whole rows, or one is not finite.
    pub fn new(mut values: Vec<f32>, width: usize) -> Result<Self> {
        ensure!(width > 0 && !values.is_empty(), "there are no embeddings to organize");
        ensure!(
            values.len().is_multiple_of(width),
            "{} values are no whole rows of {width}",
            values.len()
        );
        ensure!(values.iter().all(|x| x.is_finite()), "the embeddings are not finite numbers");
        for row in values.chunks_exact_mut(width) {
            let length = dot(row, row).sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|x| *x /= length);
            }
        }
        Ok(Self { values, width })
    }

    /// How many photographs.
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Numbers a photograph.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The direction of photograph `index`, `[width]`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }

    /// Row after row.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }
}

/// The `k` photographs most similar to each, the most similar first; fewer where there are fewer others.
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

/// Sums in eight lanes, which compilers turn into vector instructions; one running sum they may not reorder.
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
