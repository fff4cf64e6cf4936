//! The loss of BYOL: Grill et al., *Bootstrap Your Own Latent*, 2020, arXiv:2006.07733,
//! equation 2.

use portolan_tensor::Tensor;

use crate::Result;
use crate::negative_cosine;

/// The squared distance between normalized predictions and target projections, in one direction.
///
/// ℓ = mean over i of ‖ pᵢ/‖pᵢ‖ − zᵢ/‖zᵢ‖ ‖² = 2 − 2 · mean cos(pᵢ, zᵢ), between 0 and 4.
///
/// `p` (the online network's prediction), `z` (the target network's projection): `[batch, dim]`.
/// The gradient flows into `p` alone. BYOL adds both directions.
///
/// # Errors
/// When the shapes differ or the batch is empty.
pub fn byol(p: &Tensor, z: &Tensor) -> Result<Tensor> {
    Ok(2.0 + 2.0 * negative_cosine(p, z)?)
}
