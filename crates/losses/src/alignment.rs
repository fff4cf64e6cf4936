//! Alignment: Wang, Isola, *Understanding Contrastive Representation Learning through Alignment and
//! Uniformity on the Hypersphere*, 2020, arXiv:2005.10242, section 4.1.1.

use crate::{check, parts};
use anyhow::Result;
use portolan_tensor::{Kind, Tensor};

/// How far the two views of an image lie apart, on average.
///
/// ℓ = mean over i of ‖xᵢ − yᵢ‖^α, with rows at length one; 0 is best, 2^α worst.
///
/// `x`, `y`: `[batch, dim]`; α = `alpha`, 2 in the paper. The gradient flows into both. As a diagnostic
/// it is read beside [`uniformity`](crate::uniformity()): either one alone is easily had.
///
/// # Errors
/// When the shapes differ, the batch is empty or `alpha` is not positive.
pub fn alignment(x: &Tensor, y: &Tensor, alpha: f64) -> Result<Tensor> {
    check::pair(("x", x), ("y", y), 1)?;
    check::positive("alpha", alpha)?;
    check::in_float([x, y], |[x, y]| {
        let distance =
            (parts::l2_normalize(&x) - parts::l2_normalize(&y)).norm_scalaropt_dim(2, [-1], false);
        distance.pow_tensor_scalar(alpha).mean(None::<Kind>)
    })
}
