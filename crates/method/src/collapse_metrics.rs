//! Metrics of collapse: whether a method's outputs still differ between images.

use portolan_losses::{effective_rank, l2_normalize};
use portolan_tensor::{Kind, Tensor, no_grad};

use crate::Result;

/// The metrics of collapse of one batch's outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CollapseMetrics {
    /// The standard deviation over the batch of each dimension of the l2-normalized outputs,
    /// averaged over the dimensions and multiplied by √dim. It is about 1 when the outputs fill the
    /// sphere, and 0 when all are the same point: complete collapse (SimSiam, arXiv 2011.10566,
    /// section 4.1).
    pub deviation: f64,
    /// The effective number of directions that the outputs use (RankMe, arXiv 2210.02885). A value
    /// far below min(batch, dim) means dimensional collapse.
    pub effective_rank: f64,
}

/// Computes both metrics of outputs `[batch, dim]`. It waits for the device, so call it only now
/// and then.
///
/// # Errors
/// When there are fewer than two outputs.
pub fn collapse_metrics(outputs: &Tensor) -> Result<CollapseMetrics> {
    Ok(CollapseMetrics {
        deviation: output_deviation(outputs),
        effective_rank: output_rank(outputs)?,
    })
}

/// Only [`CollapseMetrics::effective_rank`], which needs the eigenvalues of a matrix.
///
/// # Errors
/// When there are fewer than two outputs.
pub fn output_rank(outputs: &Tensor) -> Result<f64> {
    Ok(effective_rank(outputs)?.double_value(&[]))
}

/// Only [`CollapseMetrics::deviation`], which is cheap.
pub fn output_deviation(outputs: &Tensor) -> f64 {
    let outputs = outputs.detach().to_kind(Kind::Float);
    let deviation = no_grad(|| {
        l2_normalize(&outputs).std_dim([0i64].as_slice(), true, false).mean(Kind::Float)
    });
    let dim = outputs.size()[1] as f64;
    deviation.double_value(&[]) * dim.sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_tensor::{Device, seed};

    #[test]
    fn a_full_sphere_a_point_and_a_plane_are_told_apart() {
        seed(0);
        let full = Tensor::randn([512, 16], (Kind::Float, Device::Cpu));
        let signs = collapse_metrics(&full).unwrap();
        assert!((signs.deviation - 1.0).abs() < 0.05 && signs.effective_rank > 15.0, "{signs:?}");

        let point = &full.narrow(0, 0, 1) + 1e-4 * &full;
        let signs = collapse_metrics(&point).unwrap();
        assert!(signs.deviation < 0.01 && signs.effective_rank < 1.1, "{signs:?}");

        let plane = full.narrow(1, 0, 2).matmul(&full.narrow(0, 0, 2));
        let signs = collapse_metrics(&plane).unwrap();
        assert!(signs.deviation > 0.5 && signs.effective_rank < 2.1, "{signs:?}");
    }
}
