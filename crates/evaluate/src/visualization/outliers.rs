//! Outliers among the patch tokens of a vision transformer.
//!
//! Darcet et al. 2023, *Vision Transformers Need Registers*, arXiv 2309.16588, section 2.1: large
//! transformers write global information into a few patches without content. These tokens are
//! several times as long as others, and spoil attention maps. Registers take their place.

use portolan_encoders::Vit;
use portolan_tensor::{Device, Kind, Tensor, no_grad};
use serde::Serialize;

use crate::error::{Error, Result};

/// How many times the median length makes an outlier. Ours: the paper cuts at a length of 150 for
/// DINOv2's ViT-g (section 2.1), and other networks have other lengths.
pub const OUTLIER: f64 = 3.0;

/// How long patch tokens are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PatchNorms {
    /// The median length.
    pub median: f64,
    /// The share of patches that are longer than [`OUTLIER`] times the median.
    pub outliers: f64,
    /// The largest length, in medians.
    pub largest: f64,
}

impl PatchNorms {
    /// The statistics of these lengths, of any shape, with at least one element.
    ///
    /// # Errors
    /// When there is none, or they are not finite.
    pub fn of(lengths: &Tensor) -> Result<Self> {
        if lengths.numel() == 0 {
            return Err(Error::Images("there is no patch to measure".to_owned()));
        }
        if !bool::try_from(lengths.isfinite().all())? {
            return Err(Error::NotFinite);
        }
        let median = lengths.median().double_value(&[]).max(f64::MIN_POSITIVE);
        let long = lengths.gt(OUTLIER * median).to_kind(Kind::Double);
        Ok(PatchNorms {
            median,
            outliers: long.mean(Kind::Double).double_value(&[]),
            largest: lengths.max().double_value(&[]) / median,
        })
    }
}

/// The lengths of the patch tokens before the last norm, `[batch, patches]`, on the CPU. `images`:
/// `[batch, 3, height, width]`, normalized.
///
/// # Errors
/// When the patch does not divide the images.
pub fn patch_lengths(vit: &Vit, images: &Tensor) -> Result<Tensor> {
    let tokens = no_grad(|| vit.unnormalized_tokens(images)).map_err(Error::dependency)?;
    let prefix = vit.prefix_tokens();
    let patches = tokens.narrow(1, prefix, tokens.size()[1] - prefix).to_kind(Kind::Float);
    Ok(patches.square().sum_dim_intlist(-1, false, Kind::Float).sqrt().to_device(Device::Cpu))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_encoders::VitConfig;
    use portolan_tensor::Vars;

    #[test]
    fn outliers_are_three_times_as_long_as_the_median() {
        let lengths = Tensor::from_slice(&[2.0f32, 2.0, 2.0, 2.0, 5.9, 6.1, 1.0, 10.0]);
        let norms = PatchNorms::of(&lengths).unwrap();
        assert_eq!((norms.median, norms.outliers, norms.largest), (2.0, 0.25, 5.0));
        assert!(PatchNorms::of(&Tensor::from_slice(&[1.0f32, f32::NAN])).is_err());
        assert!(PatchNorms::of(&lengths.narrow(0, 0, 0)).is_err());
    }

    #[test]
    fn only_patches_are_measured() {
        let config = VitConfig { registers: 3, ..VitConfig::plain([8, 1, 2], 4, 16) };
        let vit = Vit::new(&config, &Vars::new(Device::Cpu)).unwrap();
        let x = Tensor::randn([2, 3, 16, 16], (Kind::Float, Device::Cpu));
        let lengths = patch_lengths(&vit, &x).unwrap();
        assert_eq!(lengths.size(), [2, 16]);
        // After a class token and three registers.
        let token = no_grad(|| vit.unnormalized_tokens(&x)).unwrap().get(1).get(4);
        let expected = token.square().sum(Kind::Float).sqrt();
        assert!(lengths.get(1).get(0).allclose(&expected, 1e-6, 1e-6, false));
    }
}
