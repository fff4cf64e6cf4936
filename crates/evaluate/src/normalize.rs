//! Normalization of features to length one.

use portolan_tensor::Tensor;

/// Each row of `x` (`[n, width]`) scaled to length one. A row of zeros stays zero.
///
/// `portolan_losses::l2_normalize` sums in another order and differs in the last bits. Recorded kNN
/// accuracies depend on the bits of this one.
pub(crate) fn unit_rows(x: &Tensor) -> Tensor {
    x / x.square().sum_dim_intlist(1, true, x.kind()).sqrt().clamp_min(1e-12)
}
