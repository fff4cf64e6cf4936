//! Groups by k-means, and how typical their members are.

use linfa::prelude::{Fit, Predict, SilhouetteScore};
use linfa::{DatasetBase, ParamGuard};
use linfa_clustering::KMeans;
use ndarray::Array2;

use crate::embeddings::{Embeddings, dot};
use crate::error::{Error, Result};

/// The numbers of groups that are tried when none is given.
const TRIED: [usize; 10] = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48];
/// The number of images on which they are compared, since the silhouette compares all pairs.
const SAMPLE: usize = 1_000;
/// The number of starts of k-means, of which the tightest result is kept.
const STARTS: usize = 3;

/// A partition of the images into `count` groups.
#[derive(Clone, Debug)]
pub struct Groups {
    /// The group of each image, below `count`; group 0 is the largest.
    pub of: Vec<usize>,
    /// The number of groups, none of which is empty.
    pub count: usize,
    /// Each image's cosine similarity to the mean direction of its group.
    pub typicality: Vec<f32>,
}

impl Groups {
    /// The members of each group, the most typical first.
    #[must_use]
    pub fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.count];
        for (index, &group) in self.of.iter().enumerate() {
            members[group].push(index);
        }
        for group in &mut members {
            group.sort_by(|&a, &b| self.typicality[b].total_cmp(&self.typicality[a]));
        }
        members
    }
}

/// Groups the images by k-means into `count` groups, with the same result each time.
///
/// Without a `count`, it is the one of 2, 3, 4, 6, 8, 12, 16, 24, 32 and 48 with the best mean
/// silhouette on up to 1,000 evenly spaced images. It is at least a quarter of the square root of
/// the number of images, because the silhouette alone prefers two groups, which are little help in
/// finding anything; and it leaves at least four of the compared images per group.
///
/// # Errors
/// When there are fewer images than groups, or `count` is 0.
pub fn groups(x: &Embeddings, count: Option<usize>) -> Result<Groups> {
    let count = match count {
        Some(count) => count,
        None => choose_count(x)?,
    };
    if count == 0 {
        let problem = "images cannot be put into 0 groups; ask for at least one";
        return Err(Error::Groups(problem.to_owned()));
    }
    if count > x.len() {
        return Err(Error::Groups(format!(
            "{} images cannot be put into {count} groups; ask for fewer",
            x.len()
        )));
    }
    let of = k_means(matrix(x, 1), count)?;
    let (of, count) = largest_first(&of, count);
    let typicality = typicality(x, &of, count);
    Ok(Groups { of, count, typicality })
}

fn choose_count(x: &Embeddings) -> Result<usize> {
    let sample = matrix(x, x.len().div_ceil(SAMPLE));
    let mut best = (1, f32::NEG_INFINITY);
    let least = ((x.len() as f64).sqrt() / 4.0).min(32.0);
    let sensible = |count: &usize| *count as f64 >= least && 4 * count <= sample.nrows();
    for count in TRIED.into_iter().filter(sensible) {
        let of = ndarray::Array1::from(k_means(sample.clone(), count)?);
        let score = DatasetBase::new(sample.view(), of).silhouette_score()?;
        if score > best.1 {
            best = (count, score);
        }
    }
    Ok(best.0)
}

/// Every `step`-th row.
fn matrix(x: &Embeddings, step: usize) -> Array2<f32> {
    let values: Vec<f32> = x.rows().step_by(step).flatten().copied().collect();
    Array2::from_shape_vec((values.len() / x.width(), x.width()), values).expect("whole rows")
}

fn k_means(x: Array2<f32>, count: usize) -> Result<Vec<usize>> {
    let data = DatasetBase::from(x);
    // linfa seeds its generator with a constant.
    let params = KMeans::params(count).n_runs(STARTS).max_n_iterations(100).tolerance(1e-3);
    let model = params.check()?.fit(&data)?;
    Ok(model.predict(data.records()).to_vec())
}

/// The groups renumbered by size, and how many of them are not empty.
fn largest_first(of: &[usize], count: usize) -> (Vec<usize>, usize) {
    let mut sizes = vec![0usize; count];
    of.iter().for_each(|&group| sizes[group] += 1);
    let mut order: Vec<usize> = (0..count).filter(|&group| sizes[group] > 0).collect();
    order.sort_by_key(|&group| std::cmp::Reverse(sizes[group]));
    let mut number = vec![0; count];
    order.iter().enumerate().for_each(|(new, &old)| number[old] = new);
    (of.iter().map(|&group| number[group]).collect(), order.len())
}

fn typicality(x: &Embeddings, of: &[usize], count: usize) -> Vec<f32> {
    let mut centers = vec![vec![0f32; x.width()]; count];
    for (row, &group) in x.rows().zip(of) {
        centers[group].iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let lengths: Vec<f32> = centers.iter().map(|c| dot(c, c).sqrt().max(f32::EPSILON)).collect();
    x.rows().zip(of).map(|(row, &group)| dot(row, &centers[group]) / lengths[group]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn many_images_get_more_than_two_groups() {
        // Two wide clusters, each of two narrow ones: the silhouette alone would prefer two groups.
        let cluster = |i: usize| (1.0f32, 0.2 * (i % 2) as f32 + 0.001 * (i % 7) as f32);
        let point = |i: usize| {
            if i % 4 < 2 { [cluster(i).0, cluster(i).1] } else { [cluster(i).1, cluster(i).0] }
        };
        let of = |n: usize| {
            let x = Embeddings::new((0..n).flat_map(point).collect(), 2).unwrap();
            groups(&x, None).unwrap().count
        };
        assert!((3..=48).contains(&of(200)), "{}", of(200));
        assert!(of(12) >= 1);
    }
}
