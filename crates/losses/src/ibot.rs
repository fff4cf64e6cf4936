//! The loss of masked patches: Zhou et al., *iBOT: Image BERT Pre-Training with Online Tokenizer*,
//! 2021, arXiv:2111.07832, equation 2, in the form of DINOv2 (Oquab et al., 2023,
//! arXiv:2304.07193).

use portolan_tensor::{Kind, Tensor};

use crate::validate;
use crate::{Error, Result};

/// The cross-entropy of the student's distributions of masked patches with the targets.
///
/// ℓ = Σ over rows i of wᵢ · (−Σ targetsᵢ log softmax(studentᵢ / τ_s))
///
/// `student`, `targets`: `[rows, K]`, a row for each masked patch; `weights` w: `[rows]`, those of
/// [`patch_weights`]. A row of weight 0 counts for nothing. `student_temperature` τ_s is 0.1. The
/// gradient flows into `student` alone.
///
/// # Errors
/// When the shapes do not fit or the temperature is not positive.
pub fn ibot(
    student: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
    student_temperature: f64,
) -> Result<Tensor> {
    let (rows, _) = validate::pair(("student", student), ("targets", targets), 0)?;
    if weights.size() != [rows] {
        return Err(Error::Shape(format!(
            "`weights` has the shape {:?}, but `student` has {rows} rows",
            weights.size()
        )));
    }
    validate::positive("student_temperature", student_temperature)?;
    validate::in_float([student, targets, weights], |[student, targets, weights]| {
        let log_p = (student / student_temperature).log_softmax(-1, None::<Kind>);
        let entropies =
            -(targets.detach() * log_p).sum_dim_intlist([-1i64].as_slice(), false, None::<Kind>);
        (weights.detach() * entropies).sum(None::<Kind>)
    })
}

/// The weight of each patch in [`ibot`]: 1 / (images · masked patches of its image) where it is
/// masked, else 0. Each image counts the same, however many of its patches are masked, and the mean
/// is over all images, also those without a mask.
///
/// `mask`: `[images, patches]`, true or 1 for a masked patch. Returns the same shape, float32.
///
/// # Errors
/// When `mask` is not a matrix.
pub fn patch_weights(mask: &Tensor) -> Result<Tensor> {
    let (images, _) = validate::rows(("mask", mask), 1)?;
    let mask = mask.to_kind(Kind::Float);
    let masked = mask.sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>).clamp_min(1.0);
    Ok(mask / (masked * images as f64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_image_counts_the_same_and_those_without_a_mask_count_too() {
        let mask = Tensor::from_slice(&[1u8, 1, 1, 0, 0, 1, 0, 0, 0]).view([3, 3]);
        let weights = patch_weights(&mask).unwrap();
        let expected = [1f32 / 9.0, 1.0 / 9.0, 1.0 / 9.0, 0.0, 0.0, 1.0 / 3.0, 0.0, 0.0, 0.0];
        assert!(weights.allclose(&Tensor::from_slice(&expected).view([3, 3]), 1e-6, 1e-8, false));
        // Uniform students have an entropy of ln K against any target: 2 of 3 images are masked.
        let targets = Tensor::eye(4, portolan_tensor::tch::kind::FLOAT_CPU);
        let weights = weights.masked_select(&mask.to_kind(Kind::Bool));
        let loss = ibot(&targets.zeros_like(), &targets, &weights, 0.1).unwrap();
        assert!((loss.double_value(&[]) - 2.0 / 3.0 * 4f64.ln()).abs() < 1e-6);
    }
}
