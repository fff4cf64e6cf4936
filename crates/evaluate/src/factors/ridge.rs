//! Ridge regression, by which numeric factors are predicted from features.

use portolan_tensor::{Device, Kind, Tensor, no_grad};

use crate::error::{Error, Result};

/// The penalty on the weights, for standardized features.
const PENALTY: f64 = 1.0;

/// Ridge regression on features standardized to mean zero and deviation one.
pub(super) struct Ridge {
    mean: Tensor,
    deviation: Tensor,
    x: Tensor,
    /// The Cholesky factor of XᵀX + λ.
    root: Tensor,
}

impl Ridge {
    /// Prepares to fit weights to these training features, `[n, width]`.
    pub(super) fn new(x: &Tensor) -> Result<Self> {
        no_grad(|| {
            let x = x.to_kind(Kind::Double);
            let mean = x.mean_dim(0, true, Kind::Double);
            // A constant dimension stays zero.
            let deviation = x.std_dim(0, false, true).clamp_min(1e-12);
            let x = (x - &mean) / &deviation;
            let eye = Tensor::eye(x.size()[1], (Kind::Double, Device::Cpu));
            let root =
                (x.tr().matmul(&x) + eye * PENALTY).f_linalg_cholesky(false).map_err(|source| {
                    Error::Features {
                        message: "the features are not finite, and nothing can be read from them",
                        source: Some(source),
                    }
                })?;
            Ok(Ridge { mean, deviation, x, root })
        })
    }

    /// The weights that predict `targets`, `[n, numbers]`, up to their mean: `[width, numbers]`.
    pub(super) fn fit(&self, targets: &Tensor) -> Tensor {
        let centered = targets - targets.mean_dim(0, true, Kind::Double);
        self.x.tr().matmul(&centered).cholesky_solve(&self.root, false)
    }

    /// R² of the prediction on test features `x` (`[m, width]`) with their `targets` (`[m,
    /// numbers]`): the explained share of the variance about the mean of the training targets
    /// `fitted`.
    pub(super) fn r_squared(
        &self,
        weights: &Tensor,
        fitted: &Tensor,
        x: &Tensor,
        targets: &Tensor,
    ) -> f64 {
        let x = (x.to_kind(Kind::Double) - &self.mean) / &self.deviation;
        let centered = targets - fitted.mean_dim(0, true, Kind::Double);
        let square = |x: Tensor| x.square().sum(Kind::Double).double_value(&[]);
        1.0 - square(&centered - x.matmul(weights)) / square(centered)
    }
}
