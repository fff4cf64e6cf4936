//! InfoNCE over a queue of negatives, the objective of MoCo: He et al., *Momentum Contrast for
//! Unsupervised Visual Representation Learning*, 2019, arXiv:1911.05722, equation 1 and algorithm
//! 1.

use portolan_tensor::{Kind, Tensor};

use crate::{Error, Result};
use crate::{ops, validate};

/// The similarities of each query to its key and to the queue, over the temperature:
/// `[batch, 1 + queue]`, with the positive in column 0. MoCo's authors log the contrastive
/// accuracy: the share of rows whose largest entry is in column 0.
///
/// `q`, `k`: `[batch, dim]`; `queue`: `[keys, dim]`. All are normalized to length one. The gradient
/// flows into `q` alone. The queue may be empty: then the only column is the positive.
///
/// # Errors
/// When the shapes do not fit or the temperature is not positive.
pub fn logits(q: &Tensor, k: &Tensor, queue: &Tensor, temperature: f64) -> Result<Tensor> {
    let (_, dim) = validate::pair(("q", q), ("k", k), 1)?;
    let (_, queue_dim) = validate::rows(("queue", queue), 0)?;
    if queue_dim != dim {
        return Err(Error::Shape(format!(
            "`queue` has the shape {:?} and `q` {:?}; their second numbers must be equal",
            queue.size(),
            q.size()
        )));
    }
    validate::positive("temperature", temperature)?;
    validate::in_float([q, k, queue], |[q, k, queue]| {
        let q = ops::l2_normalize(&q);
        let k = ops::l2_normalize(&k.detach());
        let queue = ops::l2_normalize(&queue.detach());
        let positive = (&q * k).sum_dim_intlist([1i64].as_slice(), true, None::<Kind>);
        let negatives = q.matmul(&queue.tr());
        Tensor::cat(&[positive, negatives], 1) / temperature
    })
}

/// The cross-entropy of finding each query's key among the keys of the queue.
///
/// With rows at length one and τ = `temperature` (0.07 in MoCo v1, 0.2 in v2):
///
/// ℓ = mean over i of −log( exp(qᵢ·kᵢ/τ) / ( exp(qᵢ·kᵢ/τ) + Σ over the queue u of exp(qᵢ·u/τ) ) )
///
/// Shapes and gradients (into `q` alone) are as in [`logits`]. With an empty queue it is zero.
///
/// # Errors
/// As [`logits`].
pub fn info_nce_queue(q: &Tensor, k: &Tensor, queue: &Tensor, temperature: f64) -> Result<Tensor> {
    cross_entropy(&logits(q, k, queue, temperature)?)
}

/// The loss given its [`logits`], for a caller who also wants the accuracy.
///
/// # Errors
/// When `logits` is not a matrix of at least one row.
pub fn cross_entropy(logits: &Tensor) -> Result<Tensor> {
    let (batch, _) = validate::rows(("logits", logits), 1)?;
    validate::in_float([logits], |[logits]| {
        let positive = Tensor::zeros([batch], (Kind::Int64, logits.device()));
        ops::cross_entropy(&logits, &positive)
    })
}

/// The share of the gradient on the negatives that the hardest tenth of them has, the mean over the
/// queries: 0.1 if all are pushed away alike, 1 if only the hardest are. A negative's gradient is
/// proportional to its part of the softmax over all (Wang and Liu 2021, arXiv 2012.09740, equation
/// 5).
///
/// `negatives`: `[queries, negatives]`, similarities over the temperature.
///
/// # Errors
/// When `negatives` is not a matrix of at least one row.
pub fn hardest_tenth(negatives: &Tensor) -> Result<Tensor> {
    let (_, count) = validate::rows(("negatives", negatives), 1)?;
    let shares = negatives.detach().to_kind(Kind::Float).softmax(1, Kind::Float);
    let (hardest, _) = shares.topk((count + 9) / 10, 1, true, false);
    Ok(hardest.sum_dim_intlist([1i64].as_slice(), false, Kind::Float).mean(Kind::Float))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_tensor::Device;

    #[test]
    fn a_low_temperature_concentrates_on_the_hardest_negatives() {
        let similarities =
            Tensor::linspace(-1.0, 1.0, 100, (Kind::Float, Device::Cpu)).view([1, 100]);
        let share = |temperature: f64| {
            hardest_tenth(&(&similarities / temperature)).unwrap().double_value(&[])
        };
        assert!((share(1e6) - 0.1).abs() < 1e-4, "all alike");
        assert!(share(0.01) > 0.999, "only the hardest");
        // The softmax of an arithmetic sequence is geometric: (1 − rᵏ) / (1 − rⁿ), r = e^(−step/τ).
        let r = (-2.0f64 / 99.0 / 0.5).exp();
        let expected = (1.0 - r.powi(10)) / (1.0 - r.powi(100));
        assert!((share(0.5) - expected).abs() < 1e-5);
    }
}
