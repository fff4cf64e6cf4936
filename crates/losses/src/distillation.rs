//! Distillation by similarities: the student's features are to be as similar to others as the
//! teacher's are. `distillationv3_loss.py` of lightly-ai/lightly-train at commit 8f5a75c4: the
//! global loss compares an image with others ([`global`]), the local loss compares the places of an
//! image with each other ([`local`]).

use portolan_tensor::{Kind, Tensor};

use crate::{Error, Result};
use crate::{ops, validate};

/// KL divergence of the student's from the teacher's distribution over `others`, the mean over the
/// batch.
///
/// With rows at length one and τ = `temperature` (0.07 there), the distribution of an image is the
/// softmax of its similarities xᵢ·oⱼ/τ. The student's is that of its features, the teacher's that
/// of the teacher's. `student`, `teacher`: `[batch, dim]`; `others`: the teacher's features of
/// these and of other images, `[images, dim]`. The gradient flows into `student` alone.
///
/// # Errors
/// When the shapes do not fit or the temperature is not positive.
pub fn global(
    student: &Tensor,
    teacher: &Tensor,
    others: &Tensor,
    temperature: f64,
) -> Result<Tensor> {
    let (_, dim) = validate::pair(("student", student), ("teacher", teacher), 1)?;
    let (_, other_dim) = validate::rows(("others", others), 1)?;
    if other_dim != dim {
        return Err(Error::Shape(format!(
            "`others` has the shape {:?} and `student` {:?}; their second numbers must be equal",
            others.size(),
            student.size()
        )));
    }
    validate::positive("temperature", temperature)?;
    validate::in_float([student, teacher, others], |[student, teacher, others]| {
        let others = ops::l2_normalize(&others.detach()).tr();
        let student = ops::l2_normalize(&student).matmul(&others) / temperature;
        let teacher = ops::l2_normalize(&teacher.detach()).matmul(&others) / temperature;
        divergence(&student, &teacher)
    })
}

/// KL divergence of the student's from the teacher's distribution over the places of the same
/// image, the mean over all places.
///
/// As [`global`], but a place is compared with all places of its image, the student's with the
/// student's. `student`, `teacher`: `[batch, places, dim]`. The gradient flows into `student`
/// alone.
///
/// # Errors
/// As [`global`].
pub fn local(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    validate::same_shape(("student", student), ("teacher", teacher))?;
    if student.dim() != 3 {
        return Err(Error::Shape(format!(
            "`student` must have the shape [batch, places, dim], but has {:?}",
            student.size()
        )));
    }
    validate::positive("temperature", temperature)?;
    validate::in_float([student, teacher], |[student, teacher]| {
        let within = |x: &Tensor| {
            let x = ops::l2_normalize(x);
            (x.matmul(&x.transpose(1, 2)) / temperature).flatten(0, 1)
        };
        divergence(&within(&student), &within(&teacher.detach()))
    })
}

/// Σ p (log p − log q) of each row, with p and q the softmax of `teacher` and `student`; the mean
/// over rows.
fn divergence(student: &Tensor, teacher: &Tensor) -> Tensor {
    let [log_q, log_p] = [student, teacher].map(|logits| logits.log_softmax(-1, None::<Kind>));
    let of_rows = (log_p.exp() * (log_p - log_q)).sum_dim_intlist([-1i64].as_slice(), false, None);
    of_rows.mean(None::<Kind>)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_tensor::{Device, seed};

    use super::*;

    const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn the_global_loss_is_the_divergence_of_two_distributions() {
        // On unit vectors along the axes, similarities are the coordinates.
        let others = Tensor::eye(2, FLOAT);
        let student = Tensor::from_slice(&[0.6f32, 0.8]).view([1, 2]);
        let teacher = Tensor::from_slice(&[1f32, 0.0]).view([1, 2]);
        let found = global(&student, &teacher, &others, 0.5).unwrap().double_value(&[]);
        let softmax = |a: f64, b: f64| ((a / 0.5).exp(), (b / 0.5).exp());
        let ((p, p_rest), (q, q_rest)) = (softmax(1.0, 0.0), softmax(0.6, 0.8));
        let (p, q) = (p / (p + p_rest), q / (q + q_rest));
        let expected = p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    #[test]
    fn the_losses_are_zero_for_equal_features_and_flow_into_the_student() {
        seed(0);
        let others = Tensor::randn([9, 5], FLOAT);
        for shape in [vec![4, 5], vec![4, 3, 5]] {
            let teacher = Tensor::randn(&shape, FLOAT).set_requires_grad(true);
            let loss = |student: &Tensor| {
                if shape.len() == 2 {
                    global(student, &teacher, &others, 0.5).unwrap()
                } else {
                    local(student, &teacher, 0.5).unwrap()
                }
            };
            let scaled = loss(&(&teacher * 3.0)); // a direction, not a length
            assert!(scaled.double_value(&[]).abs() < 1e-5);
            let student = Tensor::randn(&shape, FLOAT).set_requires_grad(true);
            let other = loss(&student);
            assert!(other.double_value(&[]) > 0.01);
            other.backward();
            assert!(student.grad().abs().max().double_value(&[]) > 0.0);
            assert!(!teacher.grad().defined());
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let of = |shape: &[i64]| Tensor::ones(shape, FLOAT);
        assert!(global(&of(&[2, 3]), &of(&[2, 3]), &of(&[4, 2]), 0.1).is_err());
        assert!(global(&of(&[2, 3]), &of(&[2, 3]), &of(&[4, 3]), 0.0).is_err());
        assert!(local(&of(&[2, 3]), &of(&[2, 3]), 0.1).is_err());
        assert!(local(&of(&[2, 4, 3]), &of(&[2, 5, 3]), 0.1).is_err());
    }
}
