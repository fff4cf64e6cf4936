//! L-BFGS: minimizes a smooth function of one tensor (Nocedal and Wright, Numerical Optimization,
//! 2006, algorithm 7.5).

use portolan_tensor::{Kind, Tensor};
use std::collections::VecDeque;

use crate::error::{Error, Result};

/// The number of steps whose curvature is kept.
const HISTORY: usize = 20;
/// The message for features that overflow.
pub(super) const TOO_LARGE: &str =
    "the features are too large to fit a classifier to, or not finite";
const MOST_STEPS: usize = 2000;
/// The search ends when the largest entry of the gradient has fallen to this share of its start.
const CONVERGED: f64 = 1e-6;
/// The share that is accepted after the last step. The features of a collapsed encoder, which are
/// almost equal, need it; scikit-learn's LogisticRegression accepts more.
const ACCEPTED: f64 = 1e-4;
/// A gradient whose square is below this share of the value promises no gain, where the curvature
/// is about one: it is rounding, from which no smaller share can be asked. So it is at the start
/// where features say nothing of the labels.
const ROUNDING: f64 = 1e-16;

/// The minimum of the convex `objective` (its value and gradient), searched from `start` in its
/// precision, which should be float64, in coordinates in which the curvature is about one.
///
/// # Errors
/// When the gradient has not fallen to a ten-thousandth of its start within 2000 steps, or is not
/// finite.
pub(super) fn minimize(
    objective: impl Fn(&Tensor) -> (f64, Tensor),
    start: Tensor,
) -> Result<Tensor> {
    let mut x = start;
    let (mut value, mut gradient) = objective(&x);
    let first = largest(&gradient);
    let mut memory = VecDeque::with_capacity(HISTORY);
    for _ in 0..MOST_STEPS {
        if !value.is_finite() {
            return Err(Error::features(TOO_LARGE));
        }
        let steepest = largest(&gradient);
        if steepest <= CONVERGED * first || steepest.powi(2) <= ROUNDING * value.abs() {
            return Ok(x);
        }
        let direction = -approximate_newton(&gradient, &memory);
        let slope = dot(&gradient, &direction);
        // The first step has length one, since the curvature is unknown.
        let length = if memory.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt() } else { 1.0 };
        let Some(next) = line_search(&objective, &x, value, &direction, slope, length) else {
            break;
        };
        let curvature = Pair { step: &next.x - &x, change: &next.gradient - &gradient };
        if dot(&curvature.step, &curvature.change) > 0.0 {
            memory.truncate(HISTORY - 1);
            memory.push_front(curvature);
        }
        (x, value, gradient) = (next.x, next.value, next.gradient);
    }
    let left = largest(&gradient) / first;
    // Written so that NaN is an error.
    if left <= ACCEPTED {
        return Ok(x);
    }
    Err(Error::Diverged(format!(
        "the linear classifier did not converge: its gradient only fell to {left:.1e} of its start"
    )))
}

/// A step and the change of the gradient along it.
struct Pair {
    step: Tensor,
    change: Tensor,
}

/// The inverse Hessian, estimated from the kept steps, times `gradient` (algorithm 7.4).
fn approximate_newton(gradient: &Tensor, memory: &VecDeque<Pair>) -> Tensor {
    let mut q = gradient.copy();
    let mut shares = Vec::with_capacity(memory.len());
    for Pair { step, change } in memory {
        let share = dot(step, &q) / dot(step, change);
        q -= change * share;
        shares.push(share);
    }
    if let Some(Pair { step, change }) = memory.front() {
        q *= dot(step, change) / dot(change, change);
    }
    for (Pair { step, change }, share) in memory.iter().zip(shares).rev() {
        q += step * (share - dot(change, &q) / dot(step, change));
    }
    q
}

/// A point that the line search accepted.
struct Point {
    x: Tensor,
    value: f64,
    gradient: Tensor,
}

/// Halves the step until the value falls enough (Armijo's condition), up to rounding errors.
fn line_search(
    objective: &impl Fn(&Tensor) -> (f64, Tensor),
    from: &Tensor,
    value: f64,
    direction: &Tensor,
    slope: f64,
    first: f64,
) -> Option<Point> {
    let rounding = 1e-14 * value.abs();
    let mut length = first;
    while length > 1e-12 * first {
        let x = from + direction * length;
        let (now, gradient) = objective(&x);
        if now <= value + 1e-4 * length * slope + rounding {
            return Some(Point { x, value: now, gradient });
        }
        length /= 2.0;
    }
    None
}

fn largest(x: &Tensor) -> f64 {
    x.abs().max().double_value(&[])
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).sum(Kind::Double).double_value(&[])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_tensor::Device;

    /// ½ Σ cᵢ (xᵢ − i)², ill-conditioned, plus Σ (xᵢ − i)⁴.
    fn bowl(x: &Tensor) -> (f64, Tensor) {
        let center = Tensor::arange(5, (Kind::Double, x.device()));
        let steepness = Tensor::from_slice(&[1f64, 10.0, 100.0, 1e3, 1e4]);
        let off = x - center;
        let value = (off.square() * &steepness * 0.5 + off.pow_tensor_scalar(4)).sum(Kind::Double);
        (value.double_value(&[]), &off * steepness + off.pow_tensor_scalar(3) * 4.0)
    }

    #[test]
    fn finds_the_minimum_of_an_ill_conditioned_function() {
        let bottom = minimize(bowl, Tensor::from_slice(&[9f64; 5])).unwrap();
        for (i, got) in Vec::<f64>::try_from(bottom).unwrap().into_iter().enumerate() {
            assert!((got - i as f64).abs() < 0.05, "{got} is not {i}");
        }
    }

    #[test]
    fn an_unbounded_function_is_an_error() {
        let zero = || Tensor::zeros([1], (Kind::Double, Device::Cpu));
        let slope = |x: &Tensor| (-x.double_value(&[0]), -x.ones_like());
        let error = minimize(slope, zero()).unwrap_err();
        assert!(error.to_string().contains("did not converge"), "{error}");
        let nan = |x: &Tensor| (f64::NAN, x.ones_like());
        assert!(minimize(nan, zero()).is_err());
    }
}
