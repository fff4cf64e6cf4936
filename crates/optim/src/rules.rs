//! The update rules: what one step does to one parameter. All of it in place, without gradients.

use crate::config::LarsForm;
use portolan_tensor::{Device, Kind, Tensor};

/// v ← m·v + d, p ← p − lr·v (with Nesterov p ← p − lr·(d + m·v)): the momentum of `torch.optim.SGD`
/// without dampening. A buffer of zeros gives PyTorch's first step, which sets v to d.
/// Without a buffer (momentum 0) p ← p − lr·d.
pub(crate) fn momentum_step(
    param: &mut Tensor,
    direction: &Tensor,
    buffer: Option<&mut Tensor>,
    lr: f64,
    momentum: f64,
    nesterov: bool,
) {
    let Some(buffer) = buffer else {
        *param -= direction * lr;
        return;
    };
    *buffer *= momentum;
    *buffer += direction;
    *param -= match nesterov {
        true => (direction + &*buffer * momentum) * lr,
        false => &*buffer * lr,
    };
}

/// g + λp: weight decay as an L2 penalty.
pub(crate) fn decayed(param: &Tensor, gradient: &Tensor, weight_decay: f64) -> Tensor {
    match weight_decay {
        0.0 => gradient.shallow_clone(),
        _ => gradient + param * weight_decay,
    }
}

/// (g + λp) times the trust ratio of LARS. The norms stay on the device, so that it need not wait.
pub(crate) fn lars_direction(
    param: &Tensor,
    gradient: &Tensor,
    weight_decay: f64,
    trust_coefficient: f64,
    form: LarsForm,
) -> Tensor {
    let decayed = decayed(param, gradient, weight_decay);
    let param_norm = param.norm();
    match form {
        LarsForm::Lightly if weight_decay == 0.0 => decayed,
        LarsForm::Lightly => {
            let gradient_norm = gradient.norm();
            // 1e-8 as in lightly.
            let denominator = &gradient_norm + &param_norm * weight_decay + 1e-8;
            let adapted = decayed * (trust_coefficient * &param_norm / denominator);
            // Where a norm is zero, lightly leaves out the weight decay as well.
            adapted.where_self(&param_norm.gt(0.0).logical_and(&gradient_norm.gt(0.0)), gradient)
        }
        LarsForm::Authors => {
            let update_norm = decayed.norm();
            let ratio = trust_coefficient * &param_norm / &update_norm;
            let usable = param_norm.gt(0.0).logical_and(&update_norm.gt(0.0));
            decayed * ratio.where_self(&usable, &ratio.ones_like())
        }
    }
}

/// The buffers of AdamW for one parameter.
#[derive(Debug)]
pub(crate) struct Moments {
    /// The running mean of the gradient, as the parameter is shaped.
    pub(crate) mean: Tensor,
    /// The running mean of its square.
    pub(crate) square: Tensor,
    /// How many steps this parameter has taken: a scalar on the CPU, where reading it is free.
    pub(crate) steps: Tensor,
}

impl Moments {
    pub(crate) fn of(param: &Tensor) -> Self {
        let zeros = || param.zeros_like().set_requires_grad(false);
        let steps = Tensor::zeros([], (Kind::Int64, Device::Cpu));
        Moments { mean: zeros(), square: zeros(), steps }
    }
}

/// AdamW as `torch.optim.AdamW` has it: p ← p − lr·λ·p, then, with the moments m̂ and v̂ corrected for
/// their start at zero, p ← p − lr · m̂ / (√v̂ + ε).
pub(crate) fn adamw_step(
    param: &mut Tensor,
    gradient: &Tensor,
    moments: &mut Moments,
    lr: f64,
    [beta1, beta2]: [f64; 2],
    eps: f64,
    weight_decay: f64,
) {
    moments.steps += 1;
    let steps = moments.steps.int64_value(&[]) as f64;
    *param *= 1.0 - lr * weight_decay;
    let _ = moments.mean.lerp_(gradient, 1.0 - beta1);
    let _ = moments.square.lerp_(&gradient.square(), 1.0 - beta2);
    let denominator = moments.square.sqrt() / (1.0 - beta2.powf(steps)).sqrt() + eps;
    *param -= &moments.mean / denominator * (lr / (1.0 - beta1.powf(steps)));
}
