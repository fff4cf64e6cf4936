//! The objective of SimSiam: Chen, He, *Exploring Simple Siamese Representation Learning*, 2020,
//! arXiv:2011.10566, equations 1 and 3.

use crate::{check, parts};
use anyhow::Result;
use portolan_tensor::{Kind, Tensor};

/// The negative cosine of predictions and projections, one direction.
///
/// D = −mean over i of pᵢ·zᵢ / (‖pᵢ‖ ‖zᵢ‖), between −1 (equal directions) and 1.
///
/// `p` (the predictor's output), `z` (the other view's projection): `[batch, dim]`. The gradient flows
/// into `p` alone: the stop-gradient on `z` is what keeps SimSiam from collapsing. The method averages
/// both directions.
///
/// # Errors
/// When the shapes differ or the batch is empty.
pub fn negative_cosine(p: &Tensor, z: &Tensor) -> Result<Tensor> {
    check::pair(("p", p), ("z", z), 1)?;
    check::in_float([p, z], |[p, z]| {
        let cosine = parts::l2_normalize(&p) * parts::l2_normalize(&z.detach());
        -cosine.sum_dim_intlist([1i64].as_slice(), false, None::<Kind>).mean(None::<Kind>)
    })
}
