//! The loss of Barlow Twins: Zbontar et al., *Barlow Twins: Self-Supervised Learning via
//! Redundancy Reduction*, 2021, arXiv:2103.03230, equations 1 and 2.

use portolan_tensor::{Kind, Tensor};

use crate::Result;
use crate::{ops, validate};

/// The distance of the features' cross-correlation matrix from the identity.
///
/// With each feature standardized over the batch, C = AᵀB / batch (`[dim, dim]`):
///
/// ℓ = Σᵢ (1 − Cᵢᵢ)² + λ Σ over i ≠ j of Cᵢⱼ²
///
/// `z_a`, `z_b`: `[batch, dim]`, batch ≥ 2. λ = `lambda`, 0.005 in the paper (0.0051 in the
/// authors' code). Features are standardized as by the authors' batch norm: biased variance, plus
/// 1e-5. The gradient flows into both. It is a sum over features, not a mean, so its scale grows
/// with `dim`.
///
/// # Errors
/// When the shapes differ or the batch is smaller than 2.
pub fn barlow_twins(z_a: &Tensor, z_b: &Tensor, lambda: f64) -> Result<Tensor> {
    from_correlation(&correlation(z_a, z_b)?, lambda)
}

/// The cross-correlation matrix C of the features of both views, `[dim, dim]`, for a caller who
/// also wants to see it. Shapes and errors are those of [`barlow_twins`].
///
/// # Errors
/// When the shapes differ or the batch is smaller than 2.
pub fn correlation(z_a: &Tensor, z_b: &Tensor) -> Result<Tensor> {
    let (batch, _) = validate::pair(("z_a", z_a), ("z_b", z_b), 2)?;
    validate::in_float([z_a, z_b], |[z_a, z_b]| {
        standardize(&z_a).tr().matmul(&standardize(&z_b)) / batch as f64
    })
}

/// The loss given the [`correlation`] matrix.
///
/// # Errors
/// When it is not a matrix.
pub fn from_correlation(correlation: &Tensor, lambda: f64) -> Result<Tensor> {
    validate::rows(("correlation", correlation), 1)?;
    validate::in_float([correlation], |[correlation]| {
        let on = (correlation.diagonal(0, 0, 1) - 1.0).square().sum(None::<Kind>);
        let off = ops::off_diagonal(&correlation).square().sum(None::<Kind>);
        on + lambda * off
    })
}

/// Normalizes every column to mean zero and variance one.
fn standardize(z: &Tensor) -> Tensor {
    let centered = z - z.mean_dim([0i64].as_slice(), true, None::<Kind>);
    let variance = centered.square().mean_dim([0i64].as_slice(), true, None::<Kind>);
    centered / (variance + 1e-5).sqrt()
}
