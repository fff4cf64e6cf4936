//! The factor that scales a loss.

use crate::{Result, ensure_setting};

/// Checks that `loss_scale` is a positive number.
///
/// Authors write the same objective at different scales: as a sum or a mean, with both directions
/// added or averaged, or with a gradient that reaches only one of W processes. The setting
/// `loss_scale` restores the scale of the code that produced a published result. Its effect depends
/// on the optimizer:
///
/// - SGD: every step is proportional to it.
/// - LARS: the step of an adapted parameter keeps its length, but its direction g + λp contains
///   more or less weight decay. The steps of parameters without adaptation (biases and batch norms
///   in most recipes) are proportional to it.
/// - AdamW: almost no effect, because it divides by the gradient's size and decays separately.
///
/// # Errors
/// When it is not a finite number above 0.
pub fn validate_loss_scale(loss_scale: f64) -> Result<()> {
    ensure_setting(loss_scale > 0.0 && loss_scale.is_finite(), || {
        format!("loss_scale is {loss_scale}; it must be a number above 0")
    })
}
