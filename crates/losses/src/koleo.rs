//! KoLeo, a regularizer that spreads a batch: Sablayrolles et al., *Spreading vectors for
//! similarity search*, 2018, arXiv:1806.03198; used by DINOv2 (Oquab et al., 2023,
//! arXiv:2304.07193).

use portolan_tensor::{Kind, Tensor, no_grad};

use crate::Result;
use crate::{ops, validate};

/// The Kozachenko-Leonenko estimate of minus the batch's entropy.
///
/// With rows normalized to length one, and ρᵢ the distance of row i to its nearest neighbor in the
/// batch:
///
/// ℓ = −mean over i of log(ρᵢ + ε)
///
/// `x`: `[batch, dim]`, batch ≥ 2. ε = `eps`, 1e-8 in DINOv2, keeps the logarithm finite for equal
/// rows. The gradient flows into a row and its neighbor, but not through the choice of the
/// neighbor.
///
/// It computes in float64. A new transformer with a small LayerScale gives nearly equal features;
/// the cosines of those are all 1 in float32, and the nearest neighbor is any row.
///
/// # Errors
/// When `x` is not a matrix of at least two rows or `eps` is not positive.
pub fn koleo(x: &Tensor, eps: f64) -> Result<Tensor> {
    validate::rows(("x", x), 2)?;
    validate::positive("eps", eps)?;
    validate::in_float([x], |[x]| {
        let kind = x.kind();
        let x = ops::l2_normalize(&x.to_kind(Kind::Double));
        let neighbor = no_grad(|| {
            let mut cosine = x.matmul(&x.tr());
            // Below any cosine: a row is not its own neighbor.
            let _ = cosine.fill_diagonal_(-2.0, false);
            cosine.argmax(1, false)
        });
        let other = x.index_select(0, &neighbor);
        let distance = Tensor::pairwise_distance(&x, &other, 2.0, eps, false);
        -(distance + eps).log().mean(kind)
    })
}
