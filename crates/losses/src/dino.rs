//! The objective of DINO: Caron et al., *Emerging Properties in Self-Supervised Vision
//! Transformers*, 2021, arXiv:2104.14294, equations 1 to 4 and algorithm 1.

use portolan_tensor::{Kind, Tensor, no_grad};

use crate::validate;
use crate::{Error, Result};

/// The cross-entropy of the student's distributions with the teacher's, over pairs of different
/// views.
///
/// With P_t = softmax((teacher_t − c) / τ_t) and P_s = softmax(student_s / τ_s) over the last
/// dimension:
///
/// ℓ = mean over images and over pairs (t, s) of different views of −Σ P_t log P_s
///
/// `student`: `[student_views, batch, dim]`, `teacher`: `[teacher_views, batch, dim]`, `center`:
/// `[dim]`. The first views of the student are the teacher's, in the same order, and the pairs (t,
/// t) are left out. `student_temperature` τ_s is 0.1 in the paper, `teacher_temperature` τ_t 0.04
/// to 0.07 (sharper, so that the output does not become uniform). The latter is a scalar tensor on
/// the outputs' device, since it rises during training. The gradient flows into `student` alone.
///
/// # Errors
/// When the shapes do not fit, the student sees fewer than two views or fewer than the teacher, or
/// the student's temperature is not positive.
pub fn dino(
    student: &Tensor,
    teacher: &Tensor,
    center: &Tensor,
    student_temperature: f64,
    teacher_temperature: &Tensor,
) -> Result<Tensor> {
    let (student_views, batch, dim) = views("student", student)?;
    let (teacher_views, teacher_batch, teacher_dim) = views("teacher", teacher)?;
    if (batch, dim) != (teacher_batch, teacher_dim) {
        return Err(Error::Shape(format!(
            "`student` has the shape {:?} and `teacher` {:?}; they must be equal but for the views",
            student.size(),
            teacher.size()
        )));
    }
    if student_views < 2 || student_views < teacher_views {
        return Err(Error::Shape(format!(
            "the student has {student_views} view(s) and the teacher {teacher_views}; the student \
             needs at least two, the teacher's first"
        )));
    }
    validate_center(center, dim)?;
    validate::positive("student_temperature", student_temperature)?;
    validate::in_float([student, teacher, center], |[student, teacher, center]| {
        let p_t = softmax_center(&teacher, &center, teacher_temperature);
        let mut entropies = entropies(&p_t, &student, student_temperature);
        let _ = entropies.fill_diagonal_(0.0, false);
        let pairs = teacher_views * student_views - teacher_views;
        entropies.sum(None::<Kind>) / (pairs * batch) as f64
    })
}

/// −Σ P_t log P_s of every pair of views, summed over the images: `[teacher_views, student_views]`
/// from `[teacher_views, batch, dim]` and `[student_views, batch, dim]`.
pub(crate) fn entropies(p_t: &Tensor, student: &Tensor, student_temperature: f64) -> Tensor {
    let log_p_s = (student / student_temperature).log_softmax(-1, None::<Kind>);
    -p_t.flatten(1, 2).matmul(&log_p_s.flatten(1, 2).tr())
}

fn softmax_center(teacher: &Tensor, center: &Tensor, temperature: &Tensor) -> Tensor {
    ((teacher - center) / temperature).detach().softmax(-1, None::<Kind>)
}

/// The teacher's distributions P_t = softmax((teacher − c) / τ_t).
///
/// `teacher`: `[…, dim]`, `center`: `[dim]`, τ_t a scalar tensor. No gradient flows.
///
/// # Errors
/// When the shapes do not fit.
pub fn targets(teacher: &Tensor, center: &Tensor, temperature: &Tensor) -> Result<Tensor> {
    validate_center(center, teacher.size().last().copied().unwrap_or(0))?;
    validate::in_float([teacher, center], |[teacher, center]| {
        softmax_center(&teacher, &center, temperature)
    })
}

/// Moves the center towards the mean of the teacher's outputs, in place (equation 4):
/// c ← m c + (1 − m) · mean over views and images.
///
/// `center`: `[dim]`; `teacher`: `[views, batch, dim]`; m = `momentum`, 0.9 in the paper. No
/// gradient flows. Call it after the loss, which uses the center of the batches before.
///
/// # Errors
/// When the shapes do not fit.
pub fn update_center(center: &mut Tensor, teacher: &Tensor, momentum: f64) -> Result<()> {
    let (_, _, dim) = views("teacher", teacher)?;
    validate_center(center, dim)?;
    no_grad(|| {
        let mean =
            teacher.to_kind(center.kind()).mean_dim([0i64, 1].as_slice(), false, None::<Kind>);
        let _ = center.lerp_(&mean, 1.0 - momentum);
    });
    Ok(())
}

fn views(name: &str, x: &Tensor) -> Result<(i64, i64, i64)> {
    let shape = x.size();
    match shape.as_slice() {
        &[views, batch, dim] if views > 0 && batch > 0 => Ok((views, batch, dim)),
        _ => Err(Error::Shape(format!(
            "`{name}` must have the shape [views, batch, dim], but has {shape:?}"
        ))),
    }
}

fn validate_center(center: &Tensor, dim: i64) -> Result<()> {
    let shape = center.size();
    if shape == [dim] {
        return Ok(());
    }
    let message = format!("`center` must have the shape [{dim}], but has {shape:?}");
    Err(Error::Shape(message))
}
