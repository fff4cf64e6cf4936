//! LARS (You, Gitman, Ginsburg, 2017, arXiv:1708.03888): SGD with momentum, with the rate adapted
//! to each parameter's norm.

use portolan_tensor::Tensor;
use portolan_tensor::foreach::{self, Sgd};

use crate::Result;
use crate::config::LarsForm;

/// One group's settings for [`step`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lars {
    pub(crate) momentum: f64,
    /// λ; 0 for a group without weight decay.
    pub(crate) weight_decay: f64,
    /// η.
    pub(crate) trust_coefficient: f64,
    pub(crate) form: LarsForm,
    /// Whether to adapt the group's rates. If not, the step is SGD's.
    pub(crate) adapt: bool,
}

/// Updates `params` in place. `lr` is the scheduled rate, a scalar tensor on their device.
/// `buffers` hold the momentum.
///
/// # Errors
/// When libtorch refuses.
pub(crate) fn step(
    params: &[Tensor],
    gradients: &[Tensor],
    buffers: Option<&[Tensor]>,
    lr: &Tensor,
    lars: Lars,
) -> Result<()> {
    let directions = foreach::add(gradients, params, lars.weight_decay)?; // g + λp
    if lars.adapt {
        foreach::scale(&directions, &ratios(params, gradients, &directions, lr, lars)?)?;
    }
    let sgd = Sgd { momentum: lars.momentum, weight_decay: 0.0, nesterov: false };
    if lars.form == LarsForm::Simclr {
        // v ← mv + lr·d, p ← p − v: the momentum contains the rates of earlier steps.
        foreach::scale(&directions, lr)?;
        return Ok(foreach::sgd_step(params, &directions, buffers, &lr.ones_like(), sgd)?);
    }
    Ok(foreach::sgd_step(params, &directions, buffers, lr, sgd)?)
}

/// The trust ratio of each parameter, `[parameters]`. The norms stay on the device, so that the CPU
/// does not wait.
fn ratios(
    params: &[Tensor],
    gradients: &[Tensor],
    directions: &[Tensor],
    lr: &Tensor,
    lars: Lars,
) -> Result<Tensor> {
    let Lars { weight_decay, trust_coefficient, form, .. } = lars;
    let param_norms = foreach::norms(params)?;
    let ones = param_norms.ones_like();
    let ratios = match form {
        LarsForm::Lightly if weight_decay == 0.0 => return Ok(ones),
        LarsForm::Lightly | LarsForm::SoloLearn => {
            let gradient_norms = foreach::norms(gradients)?;
            // 1e-8 as in both libraries.
            let denominator = &gradient_norms + &param_norms * weight_decay + 1e-8;
            let mut ratios = trust_coefficient * &param_norms / denominator;
            if form == LarsForm::SoloLearn {
                // Times lr, it is the smaller of the two rates.
                ratios = (ratios / lr).clamp_max(1.0);
            }
            // Where the gradient is zero, both libraries skip the weight decay too.
            ratios * gradient_norms.gt(0.0)
        }
        LarsForm::Authors | LarsForm::Simclr => {
            let norms = foreach::norms(directions)?;
            (trust_coefficient * &param_norms / &norms).where_self(&norms.gt(0.0), &ones)
        }
    };
    Ok(ratios.where_self(&param_norms.gt(0.0), &ones))
}
