//! What a loss is multiplied by.

use crate::{Result, ensure_setting};

/// Refuses a `loss_scale` that is not a positive number.
///
/// Authors write the same objective at different scales: a sum or a mean, both directions added or
/// averaged, a gradient that reaches one process in W. A method's setting `loss_scale` restores the
/// scale of the code that gave a figure. What it changes depends on the optimizer:
///
/// - SGD: every step is proportional to it.
/// - LARS: an adapted parameter's step keeps its length, but the direction g + λp holds more or
///   less weight decay. Parameters left out of the adaptation (biases and batch norms in most
///   recipes) move in proportion to it.
/// - AdamW: next to nothing, since it divides by the gradient's own size and decays apart from it.
///
/// # Errors
/// When it is not above 0.
pub fn validate_loss_scale(loss_scale: f64) -> Result<()> {
    ensure_setting(loss_scale > 0.0 && loss_scale.is_finite(), || {
        format!("loss_scale is {loss_scale}; it must be a number above 0")
    })
}
