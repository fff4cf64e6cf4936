//! The loss of MoCo v3: Chen, Xie, He, *An Empirical Study of Training Self-Supervised Vision
//! Transformers*, 2021, arXiv:2104.02057, equation 1 and algorithm 1.

use portolan_tensor::{Kind, Tensor};

use crate::Result;
use crate::{ops, validate};

/// InfoNCE within the batch, in one direction: the keys of the other images are the negatives.
///
/// With rows normalized to length one and τ = `temperature` (0.2 for vision transformers, 1.0 for
/// ResNets):
///
/// ℓ = 2τ · mean over i of −log( exp(qᵢ·kᵢ/τ) / Σ over j of exp(qᵢ·kⱼ/τ) )
///
/// The factor 2τ, from the algorithm, makes the size of the gradient depend less on the
/// temperature. `q`, `k`: `[batch, dim]`, batch ≥ 2. The gradient flows into `q` alone. MoCo v3
/// adds both directions.
///
/// # Errors
/// When the shapes differ, the batch is smaller than 2 or the temperature is not positive.
pub fn moco_v3(q: &Tensor, k: &Tensor, temperature: f64) -> Result<Tensor> {
    let (batch, _) = validate::pair(("q", q), ("k", k), 2)?;
    validate::positive("temperature", temperature)?;
    validate::in_float([q, k], |[q, k]| {
        let k = ops::l2_normalize(&k.detach());
        let logits = ops::l2_normalize(&q).matmul(&k.tr()) / temperature;
        let own_key = Tensor::arange(batch, (Kind::Int64, q.device()));
        ops::cross_entropy(&logits, &own_key) * (2.0 * temperature)
    })
}
