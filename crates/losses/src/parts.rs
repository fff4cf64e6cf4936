//! Steps that several objectives share.

use portolan_tensor::{Reduction, Tensor};

/// The vectors along the last dimension brought to length one; a zero vector stays zero, as in
/// `torch.nn.functional.normalize`.
pub fn l2_normalize(x: &Tensor) -> Tensor {
    x / x.norm_scalaropt_dim(2, [-1], true).clamp_min(1e-12)
}

/// Mean cross-entropy of `logits` (`[batch, classes]`) where row i's class is `targets[i]`. The
/// log-softmax inside subtracts each row's maximum, so that large logits do not overflow.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Tensor {
    const IGNORE_INDEX: i64 = -100; // PyTorch's default; no target here is negative.
    logits.cross_entropy_loss::<Tensor>(targets, None, Reduction::Mean, IGNORE_INDEX, 0.0)
}

/// The square matrix with zeros on its diagonal.
pub(crate) fn off_diagonal(matrix: &Tensor) -> Tensor {
    matrix.triu(1) + matrix.tril(-1)
}
