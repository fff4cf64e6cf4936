//! Uniformity: Wang, Isola, *Understanding Contrastive Representation Learning through Alignment
//! and Uniformity on the Hypersphere*, 2020, arXiv:2005.10242, section 4.1.2.

use portolan_tensor::Tensor;

use crate::Result;
use crate::{ops, validate};

/// How far a batch is from uniform on the sphere.
///
/// ℓ = log of the mean over pairs i < j of exp(−t ‖xᵢ − xⱼ‖²), with rows normalized to length one.
/// It is 0 when all rows coincide; lower is better.
///
/// `x`: `[batch, dim]`, batch ≥ 2; t = `t`, 2 in the paper. The gradient flows into `x`. It is a
/// log-sum-exp, so that a large t does not underflow, and takes memory for batch² / 2 numbers.
///
/// # Errors
/// When `x` is not a matrix of at least two rows or `t` is not positive.
pub fn uniformity(x: &Tensor, t: f64) -> Result<Tensor> {
    let (batch, _) = validate::rows(("x", x), 2)?;
    validate::positive("t", t)?;
    validate::in_float([x], |[x]| {
        let pairs = (batch * (batch - 1) / 2) as f64;
        let exponents = -t * ops::l2_normalize(&x).pdist(2.0).square();
        exponents.logsumexp([0], false) - pairs.ln()
    })
}
