//! A linear probe: a linear classifier on frozen features.

use portolan_tensor::{Kind, Tensor, no_grad};

use crate::error::{Error, Result};
use crate::features::Features;
use crate::labels::{self, accuracy};

mod lbfgs;

/// Multinomial logistic regression on features that are not standardized: the W and b that minimize
/// ½ ‖W‖² + Σᵢ cross-entropy(W xᵢ + b, yᵢ). The bias is not penalized. This is scikit-learn's
/// `LogisticRegression` with its default C = 1.
#[derive(Debug)]
pub struct LinearProbe {
    /// W, `[classes, width]`, float64.
    pub weight: Tensor,
    /// b, `[classes]`, float64.
    pub bias: Tensor,
}

impl LinearProbe {
    /// Fits to the rows of `bank` (`[n, width]`) and their labels (`[n]`). The problem is convex
    /// and is solved to convergence: there is no learning rate or number of epochs to choose, and
    /// no randomness.
    ///
    /// # Errors
    /// When a label is not below `classes`, shapes do not match, or the solver does not converge.
    pub fn fit(bank: &Tensor, labels: &Tensor, classes: i64) -> Result<Self> {
        if classes < 2 {
            return Err(Error::Setting(format!(
                "a classifier needs two classes or more, and there is {classes}"
            )));
        }
        labels::check(labels, bank, classes)?;
        no_grad(|| {
            let x = bank.to_kind(Kind::Double);
            // Features are often far from zero, which makes the problem ill-conditioned. Centering
            // them changes only the bias, which is not penalized: W is the same.
            let mean = x.mean_dim(0, true, Kind::Double);
            let solution = solve(&(x - &mean), labels, classes)?;
            let weight = solution.narrow(1, 0, mean.size()[1]);
            let bias = solution.select(1, -1) - weight.matmul(&mean.view([-1]));
            Ok(LinearProbe { weight, bias })
        })
    }

    /// The logits of each row of `x` (`[m, width]`): `[m, classes]`, float64.
    ///
    /// # Errors
    /// When the width differs from that of the fitted features.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let (given, fitted) = (x.size2()?.1, self.weight.size()[1]);
        if given != fitted {
            return Err(Error::Shape(format!(
                "the classifier was fitted to {fitted} features, not {given}"
            )));
        }
        Ok(x.to_kind(Kind::Double).matmul(&self.weight.tr()) + &self.bias)
    }

    /// Predicts the class of each row of `x` (`[m, width]`): `[m]`, int64.
    ///
    /// # Errors
    /// When the width differs from that of the fitted features.
    pub fn predict(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.logits(x)?.argmax(1, false))
    }

    /// The accuracy on `test`.
    ///
    /// # Errors
    /// When there are no labels, or the width differs from that of the fitted features.
    pub fn top1(&self, test: &Features) -> Result<f64> {
        let truth = test.labels()?;
        Ok(accuracy(&self.predict(&test.x)?, truth))
    }
}

/// `[W b]` (`[classes, width + 1]`) for `x` (`[n, width]`).
fn solve(x: &Tensor, labels: &Tensor, classes: i64) -> Result<Tensor> {
    let (n, width) = x.size2()?;
    let options = (Kind::Double, x.device());
    let x = Tensor::cat(&[x, &Tensor::ones([n, 1], options)], 1);
    let targets = labels.one_hot(classes).to_kind(Kind::Double);
    let penalized = Tensor::cat(&[Tensor::ones([width], options), Tensor::zeros([1], options)], 0);

    // Features vary a thousand times more in some directions than in others. The solver works in
    // coordinates in which the curvature at W = 0, which is the same for each class, is the
    // identity.
    let chance = 1.0 / classes as f64;
    let curvature = x.tr().matmul(&x) * (chance * (1.0 - chance)) + penalized.diag(0);
    let root = curvature
        .f_linalg_cholesky(false)
        .map_err(|source| Error::Features { message: lbfgs::TOO_LARGE, source: Some(source) })?;
    let whitened =
        root.linalg_solve_triangular(&Tensor::eye(width + 1, options), false, true, false);

    let objective = |point: &Tensor| {
        let solution = point.matmul(&whitened);
        let penalty = &solution * &penalized;
        let log_p = x.matmul(&solution.tr()).log_softmax(1, None);
        let fit = (&targets * &log_p).sum(Kind::Double) - penalty.square().sum(Kind::Double) * 0.5;
        let gradient = (log_p.exp() - &targets).tr().matmul(&x) + penalty;
        (-fit.double_value(&[]), gradient.matmul(&whitened.tr()))
    };
    let solution = lbfgs::minimize(objective, Tensor::zeros([classes, width + 1], options))?;
    Ok(solution.matmul(&whitened))
}

/// The accuracy on `test` of a [`LinearProbe`] fitted to `bank`.
///
/// # Errors
/// When one of the two has no labels, and as [`LinearProbe::fit`].
pub fn linear_probe_top1(bank: &Features, test: &Features, classes: i64) -> Result<f64> {
    LinearProbe::fit(&bank.x, bank.labels()?, classes)?.top1(test)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_tensor::Device;

    /// Features of very different sizes, and labels that follow some of them.
    fn example() -> (Tensor, Tensor) {
        let x = (Tensor::arange(120 * 6, (Kind::Float, Device::Cpu)) * 1.7).sin().view([120, 6]);
        let labels =
            (x.select(1, 0) * 1.4 + x.select(1, 3) + 1.5).clamp(0.0, 2.9).to_kind(Kind::Int64);
        (x * Tensor::from_slice(&[1f32, 10.0, 0.1, 3.0, 0.01, 1.0]) + 4.0, labels)
    }

    #[test]
    fn the_gradient_of_the_stated_objective_is_zero() {
        let (x, labels) = example();
        let probe = LinearProbe::fit(&x, &labels, 3).unwrap();
        let (weight, bias) =
            (probe.weight.set_requires_grad(true), probe.bias.set_requires_grad(true));
        let logits = x.to_kind(Kind::Double).matmul(&weight.tr()) + &bias;
        let log_p = logits.log_softmax(1, None).gather(1, &labels.view([-1, 1]), false);
        (weight.square().sum(Kind::Double) * 0.5 - log_p.sum(Kind::Double)).backward();
        for gradient in [weight.grad(), bias.grad()] {
            let largest = gradient.abs().max().double_value(&[]);
            assert!(largest < 1e-3, "the objective still falls: {largest}");
        }
        assert!(weight.abs().max().double_value(&[]) > 0.1);
    }

    #[test]
    fn a_shift_of_the_features_changes_only_the_bias() {
        let (x, labels) = example();
        let here = LinearProbe::fit(&x, &labels, 3).unwrap();
        let far = LinearProbe::fit(&(&x + 50.0), &labels, 3).unwrap();
        assert!(here.weight.allclose(&far.weight, 1e-3, 1e-4, false));
        assert_eq!(here.predict(&x).unwrap(), far.predict(&(x + 50.0)).unwrap());
    }

    #[test]
    fn features_that_say_nothing_of_the_labels_are_fitted_by_chance() {
        // Every row stands there with either label.
        let (x, _) = example();
        let labels = Tensor::cat(
            &[
                Tensor::zeros([120], (Kind::Int64, Device::Cpu)),
                Tensor::ones([120], (Kind::Int64, Device::Cpu)),
            ],
            0,
        );
        let probe = LinearProbe::fit(&Tensor::cat(&[&x, &x], 0), &labels, 2).unwrap();
        assert!(probe.weight.abs().max().double_value(&[]) < 1e-6);
        assert!(probe.bias.abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn what_cannot_be_fitted_is_an_error() {
        let (x, labels) = example();
        let complaint = |x: &Tensor, labels: &Tensor, classes| {
            format!("{:#}", LinearProbe::fit(x, labels, classes).unwrap_err())
        };
        assert!(complaint(&(&x / 0.0), &labels, 3).contains("not finite"));
        assert!(complaint(&x, &labels.zeros_like(), 1).contains("two classes"));
        assert!(complaint(&x, &labels.narrow(0, 0, 5), 3).contains("120 rows"));
        let probe = LinearProbe::fit(&x, &labels, 3).unwrap();
        assert!(probe.predict(&x.narrow(1, 0, 4)).unwrap_err().to_string().contains("not 4"));
    }
}
