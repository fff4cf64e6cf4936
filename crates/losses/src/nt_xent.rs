//! NT-Xent, the loss of SimCLR: Chen et al., *A Simple Framework for Contrastive Learning of
//! Visual Representations*, 2020, arXiv:2002.05709, equation 1 and algorithm 1.

use portolan_tensor::{Kind, Tensor};

use crate::Result;
use crate::{ops, validate};

/// The normalized, temperature-scaled cross-entropy between the views of a batch.
///
/// With the 2n rows z of both views normalized to length one, s(i, j) = zᵢ·zⱼ / τ, and j(i) the
/// other view of i:
///
/// ℓ = mean over i of −log( exp s(i, j(i)) / Σ over k ≠ i of exp s(i, k) )
///
/// `z_a`, `z_b`: `[batch, dim]`, batch ≥ 2; row i of both comes from image i. τ = `temperature`, in
/// the paper 0.1 for ImageNet and 0.5 for CIFAR-10. The gradient flows into both. The matrix of
/// similarities is `[2·batch, 2·batch]`.
///
/// # Errors
/// When the shapes differ, the batch is smaller than 2 or the temperature is not positive.
pub fn nt_xent(z_a: &Tensor, z_b: &Tensor, temperature: f64) -> Result<Tensor> {
    let (batch, _) = validate::pair(("z_a", z_a), ("z_b", z_b), 2)?;
    validate::positive("temperature", temperature)?;
    validate::in_float([z_a, z_b], |[z_a, z_b]| {
        let z = ops::l2_normalize(&Tensor::cat(&[z_a, z_b], 0));
        let mut logits = z.matmul(&z.tr()) / temperature;
        // −∞ takes a view's similarity to itself out of the softmax and the gradient.
        let _ = logits.fill_diagonal_(f64::NEG_INFINITY, false);
        let other_view = Tensor::arange(2 * batch, (Kind::Int64, z.device())).roll([batch], [0]);
        ops::cross_entropy(&logits, &other_view)
    })
}
