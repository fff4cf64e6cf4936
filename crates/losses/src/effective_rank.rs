//! Effective rank: Roy, Vetterli, *The effective rank: A measure of effective dimensionality*,
//! 2007. As a measure of a representation's quality: RankMe (Garrido et al., 2022,
//! arXiv:2210.02885, equation 1).

use portolan_tensor::{Kind, Tensor, no_grad};

use crate::validate;
use crate::{Error, Result};

/// How many dimensions a batch effectively uses.
///
/// With the singular values σ of `x` and pₖ = σₖ / Σσ: exp(−Σ pₖ log pₖ). It is between 1, when all
/// rows lie on one line, and min(batch, dim).
///
/// `x`: `[batch, dim]`, as it is: neither centered nor normalized. A diagnostic: no gradient flows.
///
/// # Errors
/// When `x` is not a matrix of at least two rows of finite numbers.
pub fn effective_rank(x: &Tensor) -> Result<Tensor> {
    validate::rows(("x", x), 2)?;
    if !bool::try_from(x.isfinite().all()).map_err(portolan_tensor::Error::from)? {
        return Err(Error::NotFinite("x"));
    }
    no_grad(|| {
        // The singular values are the square roots of the smaller Gram matrix's eigenvalues, which
        // take a fraction of an SVD's time. In float64, since squaring doubles the digits that
        // matter.
        let x = x.to_kind(Kind::Double);
        let [batch, dim] = x.size()[..] else { unreachable!("checked to be a matrix") };
        let gram = if batch < dim { x.matmul(&x.tr()) } else { x.tr().matmul(&x) };
        let sigma = gram.linalg_eigvalsh("L").clamp_min(0.0).sqrt();
        let p = &sigma / sigma.sum(None::<Kind>).clamp_min(1e-12);
        Ok((-(&p * p.clamp_min(1e-12).log()).sum(None::<Kind>)).exp())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_tensor::Device;

    use super::*;

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

    #[test]
    fn the_gram_matrix_gives_the_singular_values_of_an_svd() {
        portolan_tensor::seed(0);
        let full = Tensor::randn([40, 24], (Kind::Float, Device::Cpu));
        // Nearly collapsed: directions a ten-thousandth as long as the first must not get lost.
        let narrow: Tensor = full.narrow(0, 0, 1) + 1e-4 * &full;
        for x in [full.shallow_clone(), full.tr(), narrow.shallow_clone(), narrow.tr()] {
            let sigma = x.to_kind(Kind::Double).svd(true, false).1;
            let p = &sigma / sigma.sum(None::<Kind>);
            let expected = (-(&p * p.log()).sum(None::<Kind>)).exp().double_value(&[]);
            let got = effective_rank(&x).unwrap().double_value(&[]);
            assert!((got - expected).abs() < 1e-6 * expected, "{got} for {expected}");
        }
    }
}
