//! Principal component analysis of features.

use portolan_tensor::{Kind, Tensor, no_grad};

use crate::error::{Error, Result};

/// The rows of `x` (`[n, width]`) along their `dims` directions of largest variance, `[n, dims]`,
/// float64, the largest first. The sign of a direction is arbitrary; here its largest entry is
/// positive, so that the same features give the same map.
///
/// # Errors
/// When there are fewer than `dims` features or no rows, or a value is not finite.
pub fn pca(x: &Tensor, dims: i64) -> Result<Tensor> {
    let (n, width) = x.size2()?;
    if n == 0 {
        return Err(Error::Images(
            "there are no features to find principal components of".to_owned(),
        ));
    }
    if !(1..=width).contains(&dims) {
        return Err(Error::Setting(format!(
            "{width} features have no {dims} principal components"
        )));
    }
    no_grad(|| {
        let x = x.to_kind(Kind::Double);
        let centered = &x - x.mean_dim(0, true, Kind::Double);
        if !bool::try_from(centered.isfinite().all())? {
            return Err(Error::features("the features are not finite numbers"));
        }
        let covariance = centered.tr().matmul(&centered) / n as f64;
        let (_, directions) = covariance.linalg_eigh("L"); // in columns, the largest variance last
        let leading = directions.narrow(1, width - dims, dims).flip([1]);
        let at = leading.abs().argmax(0, true);
        let leading = &leading * leading.gather(0, &at, false).sign();
        Ok(centered.matmul(&leading))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_tensor::{Device, seed};

    #[test]
    fn finds_the_directions_that_points_were_spread_along() {
        seed(3);
        let spread = Tensor::from_slice(&[0.1f32, 3.0, 0.2, 1.0]);
        let points = Tensor::randn([4000, 4], (Kind::Float, Device::Cpu)) * spread + 7.0;
        let map = pca(&points, 2).unwrap();
        assert_eq!(map.size(), [4000, 2]);
        for (component, feature) in [(0, 1), (1, 3)] {
            let expected = points.select(1, feature).to_kind(Kind::Double);
            let expected = &expected - expected.mean(Kind::Double);
            let off = (map.select(1, component) - expected).square().mean(Kind::Double);
            assert!(off.double_value(&[]) < 0.01, "component {component}, sign included: {off:?}");
        }
    }

    #[test]
    fn the_sign_does_not_depend_on_the_solver() {
        seed(4);
        let points = Tensor::randn([50, 6], (Kind::Float, Device::Cpu));
        let mirrored = pca(&-&points, 3).unwrap();
        // The same directions with the same signs: mirrored points have mirrored coordinates.
        assert!((pca(&points, 3).unwrap() + mirrored).abs().max().double_value(&[]) < 1e-9);
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let x = Tensor::ones([3, 2], (Kind::Float, Device::Cpu));
        assert!(pca(&x, 3).is_err() && pca(&x, 0).is_err());
        assert!(pca(&(&x / 0.0), 1).is_err());
        assert_eq!(pca(&x, 2).unwrap().abs().max().double_value(&[]), 0.0);
    }
}
