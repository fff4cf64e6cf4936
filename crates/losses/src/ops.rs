//! Operations that several losses share.

use portolan_tensor::{Reduction, Tensor};

/// `[…, dim]` with the vectors along the last dimension scaled to length one, as
/// `torch.nn.functional.normalize`. A zero vector stays zero.
pub fn l2_normalize(x: &Tensor) -> Tensor {
    x / x.norm_scalaropt_dim(2, [-1], true).clamp_min(1e-12)
}

/// Mean cross-entropy of `logits` (`[batch, classes]`) where row i's class is `targets[i]`. The
/// log-softmax inside subtracts each row's maximum, so that large logits do not overflow.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Tensor {
    const IGNORE_INDEX: i64 = -100; // PyTorch's default; no target here is negative.
    logits.cross_entropy_loss::<Tensor>(targets, None, Reduction::Mean, IGNORE_INDEX, 0.0)
}

/// A square matrix with its diagonal set to zero.
pub(crate) fn off_diagonal(matrix: &Tensor) -> Tensor {
    matrix.triu(1) + matrix.tril(-1)
}
