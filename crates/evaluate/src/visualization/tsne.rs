//! t-SNE (van der Maaten & Hinton 2008): maps of features that preserve neighborhoods.

use bhtsne::tSNE;
use portolan_losses::l2_normalize;
use portolan_tensor::{Kind, Tensor};

use super::pca::pca;
use crate::error::Result;

/// The effective number of neighbors: 30 (5 to 50 are usual, section 2 of the paper).
const PERPLEXITY: f32 = 30.0;
/// Fewer points have no neighborhoods to show.
const FEWEST: i64 = 100;
/// Features are first reduced to this many principal components, as in the paper (section 4.2).
const DIMENSIONS: i64 = 30;
/// Steps of gradient descent, the paper's 1,000.
const STEPS: usize = 1000;
/// Accuracy of the Barnes-Hut approximation: 0.5, as in van der Maaten 2014.
const THETA: f32 = 0.5;
/// The initial deviation along the first axis: 1e-4 (Kobak & Berens 2019, who also start at
/// principal components).
const INITIAL_DEVIATION: f64 = 1e-4;

/// The rows of `x` (`[n, width]`) laid out in the plane so that neighbors by cosine similarity, as
/// in kNN, stay neighbors: `[n, 2]`, float32. Distances between far groups mean little. The layout
/// starts at the first two principal components, so that the same features give the same map up to
/// rounding. `None` if there are fewer than 100 rows, or the features do not differ.
///
/// # Errors
/// When the features are not finite.
pub fn tsne(x: &Tensor) -> Result<Option<Tensor>> {
    let (n, width) = x.size2()?;
    if n < FEWEST || width < 2 {
        return Ok(None);
    }
    let places = pca(&l2_normalize(&x.to_kind(Kind::Double)), DIMENSIONS.min(width))?;
    let plane = places.narrow(1, 0, 2);
    let deviation = plane.select(1, 0).std(true).double_value(&[]);
    if deviation < 1e-9 {
        return Ok(None);
    }
    let values = |x: &Tensor| Vec::<f32>::try_from(x.to_kind(Kind::Float).contiguous().view([-1]));
    let flat = values(&places)?;
    let rows: Vec<&[f32]> = flat.chunks_exact(places.size()[1] as usize).collect();
    let mut tsne = tSNE::<f32, &[f32], 2>::new(&rows);
    tsne.perplexity(PERPLEXITY)
        .epochs(STEPS)
        .initial_embedding(values(&(plane * (INITIAL_DEVIATION / deviation)))?)
        .barnes_hut(THETA, |a, b| distance(a, b));
    let found = Tensor::from_slice(&tsne.embedding()).view([n, 2]);
    Ok(bool::try_from(found.isfinite().all())?.then_some(found))
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_tensor::{Device, tch};

    /// Three groups of 40 in ten dimensions, each around an axis of its own.
    fn groups() -> Tensor {
        tch::set_num_threads(1);
        let i = Tensor::arange(1200, (Kind::Float, Device::Cpu)).view([120, 10]);
        let scatter = (i * 12.9898).sin() * 0.2;
        let axis = Tensor::eye(10, (Kind::Float, Device::Cpu)).narrow(0, 0, 3);
        scatter + axis.repeat_interleave_self_int(40, 0, None)
    }

    #[test]
    fn groups_stay_together() {
        let map = tsne(&groups()).unwrap().unwrap();
        assert_eq!(map.size(), [120, 2]);
        let nearest = Tensor::cdist(&map, &map, 2.0, None).topk(2, 1, false, true).1.select(1, 1);
        for i in 0..120 {
            assert_eq!(nearest.int64_value(&[i]) / 40, i / 40, "point {i}");
        }
    }

    #[test]
    fn too_few_or_constant_rows_have_no_map() {
        assert!(tsne(&groups().narrow(0, 0, 50)).unwrap().is_none());
        assert!(tsne(&groups().ones_like()).unwrap().is_none());
        assert!(tsne(&(groups() / 0.0)).is_err());
    }
}
