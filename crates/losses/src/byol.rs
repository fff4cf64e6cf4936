//! The objective of BYOL: Grill et al., *Bootstrap Your Own Latent*, 2020, arXiv:2006.07733,
//! equation 2.

use crate::negative_cosine;
use anyhow::Result;
use portolan_tensor::Tensor;

/// The squared distance of predictions and target projections at length one, one direction.
///
/// ℓ = mean over i of ‖ pᵢ/‖pᵢ‖ − zᵢ/‖zᵢ‖ ‖² = 2 − 2 · mean cos(pᵢ, zᵢ), between 0 and 4.
///
/// `p` (the online network's prediction), `z` (the target network's projection): `[batch, dim]`. The
/// gradient flows into `p` alone. The method adds both directions.
///
/// # Errors
/// When the shapes differ or the batch is empty.
pub fn byol(p: &Tensor, z: &Tensor) -> Result<Tensor> {
    Ok(2.0 + 2.0 * negative_cosine(p, z)?)
}
