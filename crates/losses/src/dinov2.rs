//! The loss of class tokens of DINOv2: Oquab et al., *DINOv2: Learning Robust Visual Features
//! without Supervision*, 2023, arXiv:2304.07193, section 4 ("Image-level objective").

use portolan_tensor::{Kind, Tensor};

use crate::{Error, Result};
use crate::{dino, validate};

/// DINO's loss for given targets, and its two parts: scalars.
#[derive(Debug)]
pub struct ClassTokenLoss {
    /// The mean over all pairs: `global + local`.
    pub total: Tensor,
    /// The share of the pairs of different global views.
    pub global: Tensor,
    /// The share of the pairs of a global and a local view.
    pub local: Tensor,
}

/// The cross-entropy of the student's distributions with the targets, over pairs of different
/// views: each of n local views with both global ones, and the global ones with each other.
///
/// ℓ = mean over images and over the 2n + 2 pairs (t, s) of
///     −Σ targets_t log softmax(student_s / τ_s)
///
/// `global`: `[2, batch, K]`, outputs of the student for the global views; `local`:
/// `[n, batch, K]`; `targets`: `[2, batch, K]`, distributions of the teacher, from
/// [`dino::targets`] or [`sinkhorn_knopp`](crate::sinkhorn_knopp()). `student_temperature` τ_s is
/// 0.1. The gradient flows into the student's outputs alone.
///
/// # Errors
/// When the shapes do not fit or the temperature is not positive.
pub fn class_token(
    global: &Tensor,
    local: &Tensor,
    targets: &Tensor,
    student_temperature: f64,
) -> Result<ClassTokenLoss> {
    validate::same_shape(("global", global), ("targets", targets))?;
    let (shape, local_shape) = (global.size(), local.size());
    if shape.len() != 3 || shape[0] != 2 || local_shape.len() != 3 || shape[1..] != local_shape[1..]
    {
        return Err(Error::Shape(format!(
            "`global` has the shape {shape:?} and `local` {local_shape:?}; [2, batch, K] and \
             [views, batch, K] are needed"
        )));
    }
    validate::positive("student_temperature", student_temperature)?;
    let pairs = 2 * local_shape[0] + 2;
    validate::in_float([global, local, targets], |[global, local, targets]| {
        let targets = targets.detach();
        let mean = |entropies: Tensor| entropies.sum(None::<Kind>) / (pairs * shape[1]) as f64;
        let mut between = dino::entropies(&targets, &global, student_temperature);
        let _ = between.fill_diagonal_(0.0, false);
        let global = mean(between);
        let local = mean(dino::entropies(&targets, &local, student_temperature));
        ClassTokenLoss { total: &global + &local, global, local }
    })
}
