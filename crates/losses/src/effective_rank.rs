//! Effective rank: Roy, Vetterli, *The effective rank: A measure of effective dimensionality*, 2007; as a sign of
//! a representation's quality, RankMe (Garrido et al., 2022, arXiv:2210.02885, equation 1).

use crate::check;
use anyhow::{Result, ensure};
use portolan_tensor::{Kind, Tensor, no_grad};

/// How many directions a batch really uses.
///
/// With the singular values σ of `x` and pₖ = σₖ / Σσ: exp(−Σ pₖ log pₖ). From 1, when all rows lie on one
/// line, to min(batch, dim).
///
/// `x`: `[batch, dim]`, as it is: neither centred nor normalised. A diagnostic: no gradient flows.
///
/// # Errors
/// When `x` is not a matrix of at least two rows of finite numbers.
pub fn effective_rank(x: &Tensor) -> Result<Tensor> {
    check::rows(("x", x), 2)?;
    ensure!(bool::try_from(x.isfinite().all())?, "`x` holds numbers that are not finite");
    check::in_float([x], |[x]| {
        no_grad(|| {
            let sigma = x.svd(/* some */ true, /* compute_uv */ false).1;
            let p = &sigma / sigma.sum(None::<Kind>).clamp_min(1e-12);
            (-(&p * p.clamp_min(1e-12).log()).sum(None::<Kind>)).exp()
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_tensor::Device;

    #[test]
    fn counts_directions_by_how_evenly_they_are_used() {
        let rank = |x: &Tensor| effective_rank(x).unwrap().double_value(&[]);
        let eye = Tensor::eye(6, (Kind::Float, Device::Cpu));
        assert!((rank(&eye) - 6.0).abs() < 1e-4);
        let line = Tensor::ones([6, 4], (Kind::Float, Device::Cpu));
        assert!((rank(&line) - 1.0).abs() < 1e-3);
        // Two directions of weights 3/4 and 1/4.
        let two = Tensor::from_slice(&[3f32, 0.0, 0.0, 1.0]).view([2, 2]);
        let entropy = -(0.75 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
        assert!((rank(&two) - entropy.exp()).abs() < 1e-4);
        assert!(effective_rank(&eye.narrow(0, 0, 1)).is_err());
    }
}
