//! The loss of SimSiam: Chen, He, *Exploring Simple Siamese Representation Learning*, 2020,
//! arXiv:2011.10566, equations 1 and 3.

use portolan_tensor::{Kind, Tensor};

use crate::Result;
use crate::{ops, validate};

/// The negative cosine similarity of predictions and projections, in one direction.
///
/// D = −mean over i of pᵢ·zᵢ / (‖pᵢ‖ ‖zᵢ‖), between −1 (equal directions) and 1.
///
/// `p` (the predictor's output), `z` (the other view's projection): `[batch, dim]`. The gradient
/// flows into `p` alone: the stop-gradient on `z` keeps SimSiam from collapsing. SimSiam averages
/// both directions.
///
/// # Errors
/// When the shapes differ or the batch is empty.
pub fn negative_cosine(p: &Tensor, z: &Tensor) -> Result<Tensor> {
    validate::pair(("p", p), ("z", z), 1)?;
    validate::in_float([p, z], |[p, z]| {
        let cosine = ops::l2_normalize(&p) * ops::l2_normalize(&z.detach());
        -cosine.sum_dim_intlist([1i64].as_slice(), false, None::<Kind>).mean(None::<Kind>)
    })
}
