//! Gradient clipping.

use portolan_tensor::{Device, Kind, Tensor, foreach};

use crate::Result;
use crate::config::not_negative;

/// The norm of all gradients together, a scalar on the device. Zero if there are no gradients.
///
/// # Errors
/// When libtorch refuses.
pub fn grad_norm<'a>(params: impl IntoIterator<Item = &'a Tensor>) -> Result<Tensor> {
    match &gradients(params)[..] {
        [] => Ok(Tensor::zeros([], (Kind::Float, Device::Cpu))),
        gradients => Ok(foreach::norms(gradients)?.norm()),
    }
}

/// Scales all gradients down together so that their common norm is at most `max_norm`, as
/// `torch.nn.utils.clip_grad_norm_`.
///
/// Returns the norm before clipping, a scalar on the device: reading it would make the CPU wait. It
/// is zero if no parameter has a gradient.
///
/// # Errors
/// When `max_norm` is negative or not a number.
pub fn clip_grad_norm<'a>(
    params: impl IntoIterator<Item = &'a Tensor>,
    max_norm: f64,
) -> Result<Tensor> {
    not_negative("max_norm", max_norm)?;
    let gradients = gradients(params);
    if gradients.is_empty() {
        return Ok(Tensor::zeros([], (Kind::Float, Device::Cpu)));
    }
    let total = foreach::norms(&gradients)?.norm();
    // 1e-6 as in PyTorch, against a norm of zero.
    let scale = (max_norm / (&total + 1e-6)).clamp_max(1.0);
    foreach::scale(&gradients, &scale)?;
    Ok(total)
}

/// Scales down each gradient by itself so that its norm is at most `max_norm`, as DINO's code does.
///
/// # Errors
/// When `max_norm` is negative or not a number.
pub fn clip_each_grad<'a>(
    params: impl IntoIterator<Item = &'a Tensor>,
    max_norm: f64,
) -> Result<()> {
    not_negative("max_norm", max_norm)?;
    let gradients = gradients(params);
    if gradients.is_empty() {
        return Ok(());
    }
    let scales = (max_norm / (foreach::norms(&gradients)? + 1e-6)).clamp_max(1.0);
    Ok(foreach::scale(&gradients, &scales)?)
}

fn gradients<'a>(params: impl IntoIterator<Item = &'a Tensor>) -> Vec<Tensor> {
    params.into_iter().map(Tensor::grad).filter(Tensor::defined).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with_gradient(values: &[f32]) -> Tensor {
        let x = Tensor::from_slice(values).set_requires_grad(true);
        (x.square().sum(Kind::Float) / 2.0).backward(); // the gradient is x itself
        x
    }

    #[test]
    fn the_common_norm_is_cut_and_the_direction_kept() {
        let params = [with_gradient(&[3.0]), with_gradient(&[0.0, 4.0])];
        assert_eq!(clip_grad_norm(&params, 10.0).unwrap().double_value(&[]), 5.0);
        assert_eq!(params[1].grad().double_value(&[1]), 4.0, "a small norm is left alone");
        assert_eq!(clip_grad_norm(&params, 1.0).unwrap().double_value(&[]), 5.0);
        assert!((params[0].grad().double_value(&[0]) - 0.6).abs() < 1e-6);
        assert!((params[1].grad().double_value(&[1]) - 0.8).abs() < 1e-6);
    }

    #[test]
    fn without_gradients_there_is_nothing_to_cut() {
        let bare = Tensor::from_slice(&[1f32]).set_requires_grad(true);
        assert_eq!(clip_grad_norm([&bare], 1.0).unwrap().double_value(&[]), 0.0);
        assert!(clip_grad_norm([&bare], f64::NAN).is_err());
    }

    #[test]
    fn each_for_itself_only_the_long_are_cut() {
        let params = [with_gradient(&[0.5]), with_gradient(&[0.0, 4.0])];
        clip_each_grad(&params, 1.0).unwrap();
        assert_eq!(params[0].grad().double_value(&[0]), 0.5);
        assert!((params[1].grad().double_value(&[1]) - 1.0).abs() < 1e-6);
    }
}
