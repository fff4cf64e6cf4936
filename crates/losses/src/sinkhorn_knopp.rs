//! Sinkhorn–Knopp targets: Caron et al., *Unsupervised Learning of Visual Features by Contrasting
//! Cluster Assignments* (SwAV), 2020, arXiv:2006.09882, section 3.1; in place of DINO's centering
//! in DINOv2 (Oquab et al., 2023, arXiv:2304.07193, section 4).

use portolan_tensor::{Tensor, distributed, no_grad};

use crate::validate;
use crate::{Error, Result};

/// The teacher's targets, such that every prototype gets about the same share of the samples.
///
/// With Q = exp(teacher / τ), `iterations` times: scale each column (a prototype) to the same sum,
/// then each row (a sample) to the sum one.
///
/// `teacher`: `[samples, K]`, outputs of the teacher; `weights`: `[samples]`, 0 for a row to leave
/// out (its targets are zeros) and 1 for the others; `temperature` τ: a scalar tensor on their
/// device. Returns `[samples, K]`. 3 iterations in SwAV and DINOv2. The columns are those of the
/// samples of all processes, which may have different numbers of them. No gradient flows.
///
/// # Errors
/// When the shapes do not fit, there are no rows or no iterations, or another process is gone.
pub fn sinkhorn_knopp(
    teacher: &Tensor,
    weights: &Tensor,
    temperature: &Tensor,
    iterations: u32,
) -> Result<Tensor> {
    let (samples, _) = validate::rows(("teacher", teacher), 1)?;
    if weights.size() != [samples] {
        return Err(Error::Shape(format!(
            "`weights` has the shape {:?}, but `teacher` has {samples} rows",
            weights.size()
        )));
    }
    validate::positive("iterations", f64::from(iterations))?;
    validate::in_float([teacher, weights], |[teacher, weights]| {
        no_grad(|| {
            let logits = teacher / temperature;
            // A common factor changes nothing, and one that makes the largest entry 1 prevents an
            // overflow.
            let largest = distributed::all_gather(&logits.max().view([1]))?.max();
            let q = (logits - largest).exp();
            // Q is never scaled: the scales of its rows and columns are kept apart.
            let mut rows = weights.shallow_clone();
            let mut columns = rows.shallow_clone();
            for _ in 0..iterations {
                columns = inverse(&distributed::sum(&q.tr().mv(&rows))?);
                rows = &weights * inverse(&q.mv(&columns));
            }
            Ok(q * rows.unsqueeze(1) * columns)
        })
    })?
}

/// 1 / x. An x that is zero after rounding gives a large finite number.
fn inverse(x: &Tensor) -> Tensor {
    x.clamp_min(f64::from(f32::MIN_POSITIVE)).reciprocal()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_tensor::{Device, Kind};

    use super::*;

    const TAU: f64 = 0.1;

    fn targets(teacher: &Tensor, weights: &[f32], iterations: u32) -> Tensor {
        let (weights, tau) = (Tensor::from_slice(weights), Tensor::from(TAU));
        sinkhorn_knopp(teacher, &weights, &tau, iterations).unwrap()
    }

    #[test]
    fn two_samples_that_like_one_prototype_share_both() {
        // Q = [[e, 1], [1, 1]] after the division by τ. One iteration: columns of the sums e + 1
        // and 2, so that row 0 is [e/(e+1), 1/2] and row 1 [1/(e+1), 1/2], each scaled to one.
        let teacher = Tensor::from_slice(&[TAU, 0.0, 0.0, 0.0]).view([2, 2]);
        let found = targets(&teacher, &[1.0, 1.0], 1);
        let e = 1f64.exp();
        let row = |a: f64, b: f64| [a / (a + b), b / (a + b)];
        let expected = [row(e / (e + 1.0), 0.5), row(1.0 / (e + 1.0), 0.5)].concat();
        let expected = Tensor::from_slice(&expected).view([2, 2]);
        assert!(found.allclose(&expected, 1e-6, 1e-7, false), "{found:?}");
        // The limit has the same sums of columns too.
        let columns = targets(&teacher, &[1.0, 1.0], 100).sum_dim_intlist(
            [0i64].as_slice(),
            false,
            Kind::Double,
        );
        assert!(columns.allclose(&columns.ones_like(), 1e-6, 1e-6, false));
    }

    #[test]
    fn rows_of_weight_zero_count_for_nothing() {
        portolan_tensor::seed(0);
        let teacher = Tensor::randn([5, 4], (Kind::Float, Device::Cpu)) * 0.1;
        let found = targets(&teacher, &[1.0, 1.0, 1.0, 0.0, 0.0], 3);
        let alone = targets(&teacher.narrow(0, 0, 3), &[1.0; 3], 3);
        assert!(found.narrow(0, 0, 3).allclose(&alone, 1e-5, 1e-7, false));
        assert_eq!(found.narrow(0, 3, 2).abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn large_outputs_stay_finite() {
        let teacher = Tensor::from_slice(&[1000f32, 0.0, 0.0, -1000.0, 3.0, 500.0]).view([2, 3]);
        let found = targets(&teacher, &[1.0, 1.0], 3);
        assert!(bool::try_from(found.isfinite().all()).unwrap(), "{found:?}");
        let none = sinkhorn_knopp(
            &teacher,
            &Tensor::ones([2], (Kind::Float, Device::Cpu)),
            &Tensor::from(TAU),
            0,
        );
        assert!(none.unwrap_err().to_string().contains("iterations"));
    }
}
