//! The loss of VICReg: Bardes, Ponce, LeCun, *VICReg: Variance-Invariance-Covariance
//! Regularization for Self-Supervised Learning*, 2021, arXiv:2105.04906, equations 1 to 6.

use portolan_tensor::{Kind, Reduction, Tensor};

use crate::Result;
use crate::{ops, validate};

/// The weights of the terms, and ε. The defaults are the paper's (section 4.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// λ of the invariance term: 25.
    pub invariance: f64,
    /// μ of the variance term: 25.
    pub variance: f64,
    /// ν of the covariance term: 1.
    pub covariance: f64,
    /// ε that keeps the gradient of the standard deviation finite: 1e-4.
    pub eps: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Weights { invariance: 25.0, variance: 25.0, covariance: 1.0, eps: 1e-4 }
    }
}

/// The loss and its three unweighted terms.
#[derive(Debug)]
pub struct Vicreg {
    /// The weighted sum, which is minimized.
    pub total: Tensor,
    /// The mean squared difference of the views.
    pub invariance: Tensor,
    /// How far the features' standard deviations are below 1, averaged over the views.
    pub variance: Tensor,
    /// The features' squared covariances, summed over the views.
    pub covariance: Tensor,
}

/// Variance, invariance and covariance of two views.
///
/// - s = mean of (z_a − z_b)² over batch and features
/// - v(z) = mean over features of max(0, 1 − √(Var zⱼ + ε)), with the unbiased variance
/// - c(z) = 1/dim · Σ over i ≠ j of Cov(z)ᵢⱼ²
///
/// ℓ = λ s + μ ½(v(z_a) + v(z_b)) + ν (c(z_a) + c(z_b))
///
/// The factor ½ is not in the paper's equation 6 but in the authors' code, which produced its
/// results. `z_a`, `z_b`: `[batch, dim]`, batch ≥ 2; not normalized. The gradient flows into both.
///
/// # Errors
/// When the shapes differ or the batch is smaller than 2.
pub fn vicreg(z_a: &Tensor, z_b: &Tensor, weights: &Weights) -> Result<Vicreg> {
    validate::pair(("z_a", z_a), ("z_b", z_b), 2)?;
    validate::in_float([z_a, z_b], |[z_a, z_b]| {
        let invariance = z_a.mse_loss(&z_b, Reduction::Mean);
        let variance = (hinge(&z_a, weights.eps) + hinge(&z_b, weights.eps)) / 2.0;
        let covariance = squared_covariances(&z_a) + squared_covariances(&z_b);
        let total = weights.invariance * &invariance
            + weights.variance * &variance
            + weights.covariance * &covariance;
        Vicreg { total, invariance, variance, covariance }
    })
}

/// v(z): a penalty on features whose standard deviation over the batch is below 1.
fn hinge(z: &Tensor, eps: f64) -> Tensor {
    let deviation = (z.var_dim([0i64].as_slice(), true, false) + eps).sqrt();
    let shortfall: Tensor = 1.0 - deviation;
    shortfall.relu().mean(None::<Kind>)
}

/// c(z): the squared covariances of different features, divided by `dim`.
fn squared_covariances(z: &Tensor) -> Tensor {
    let (batch, dim) = (z.size()[0] as f64, z.size()[1] as f64);
    let centered = z - z.mean_dim([0i64].as_slice(), true, None::<Kind>);
    let covariance = centered.tr().matmul(&centered) / (batch - 1.0);
    ops::off_diagonal(&covariance).square().sum(None::<Kind>) / dim
}
