//! Alignment: Wang, Isola, *Understanding Contrastive Representation Learning through Alignment and
//! Uniformity on the Hypersphere*, 2020, arXiv:2005.10242, section 4.1.1.

use portolan_tensor::{Kind, Tensor};

use crate::Result;
use crate::{ops, validate};

/// The mean distance between the two views of an image.
///
/// ℓ = mean over i of ‖xᵢ − yᵢ‖^α, with rows normalized to length one. 0 is best, 2^α worst.
///
/// `x`, `y`: `[batch, dim]`; α = `alpha`, 2 in the paper. The gradient flows into both. As a
/// diagnostic it says little without [`uniformity`](crate::uniformity()): a collapsed network has
/// an alignment of 0.
///
/// # Errors
/// When the shapes differ, the batch is empty or `alpha` is not positive.
pub fn alignment(x: &Tensor, y: &Tensor, alpha: f64) -> Result<Tensor> {
    validate::pair(("x", x), ("y", y), 1)?;
    validate::positive("alpha", alpha)?;
    validate::in_float([x, y], |[x, y]| {
        let distance =
            (ops::l2_normalize(&x) - ops::l2_normalize(&y)).norm_scalaropt_dim(2, [-1], false);
        distance.pow_tensor_scalar(alpha).mean(None::<Kind>)
    })
}
