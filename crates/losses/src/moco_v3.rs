//! The objective of MoCo v3: Chen, Xie, He, *An Empirical Study of Training Self-Supervised Vision
//! Transformers*, 2021, arXiv:2104.02057, equation 1 and algorithm 1.

use crate::{check, parts};
use anyhow::Result;
use portolan_tensor::{Kind, Tensor};

/// InfoNCE within the batch, one direction: the other images' keys are the negatives.
///
/// With rows at length one and τ = `temperature` (0.2 for vision transformers, 1.0 for ResNets):
///
/// ℓ = 2τ · mean over i of −log( exp(qᵢ·kᵢ/τ) / Σ over j of exp(qᵢ·kⱼ/τ) )
///
/// The factor 2τ, from the algorithm, makes the size of the gradient depend less on the temperature.
/// `q`, `k`: `[batch, dim]`, batch ≥ 2. The gradient flows into `q` alone. The method adds both
/// directions.
///
/// # Errors
/// When the shapes differ, the batch is smaller than 2 or the temperature is not positive.
pub fn moco_v3(q: &Tensor, k: &Tensor, temperature: f64) -> Result<Tensor> {
    let (batch, _) = check::pair(("q", q), ("k", k), 2)?;
    check::positive("temperature", temperature)?;
    check::in_float([q, k], |[q, k]| {
        let k = parts::l2_normalize(&k.detach());
        let logits = parts::l2_normalize(&q).matmul(&k.tr()) / temperature;
        let own_key = Tensor::arange(batch, (Kind::Int64, q.device()));
        parts::cross_entropy(&logits, &own_key) * (2.0 * temperature)
    })
}
