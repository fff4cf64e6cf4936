//! The features of patches as colors.

use portolan_tensor::{Kind, Tensor};

use super::pca::pca;
use crate::error::{Error, Result};

/// The first three principal components of the patches' features as red, green and blue, as in
/// Oquab et al. 2023 (DINOv2, arXiv 2304.07193, figure 1). Patches with similar features have
/// similar colors.
///
/// `maps`: `[n, width, rows, columns]` from
/// [`feature_map`](portolan_encoders::Encoder::feature_map).
/// The components are those of all patches together, so that colors mean the same in all images.
/// Returns `[n, 3, rows, columns]`, float64 from 0 to 1: the mean is gray, and two standard
/// deviations reach the ends.
///
/// # Errors
/// When there are fewer than three features, or they are not finite.
pub fn patch_colors(maps: &Tensor) -> Result<Tensor> {
    let &[n, width, rows, columns] = &maps.size()[..] else {
        return Err(Error::Shape(format!(
            "the maps must be [n, width, rows, columns], but are {:?}",
            maps.size()
        )));
    };
    if width < 3 {
        return Err(Error::Shape(format!(
            "features of {width} numbers have no three components to color by"
        )));
    }
    let patches = maps.permute([0, 2, 3, 1]).reshape([-1, width]);
    let components = pca(&patches, 3)?;
    let deviations = components.square().mean_dim(0, true, Kind::Double).sqrt();
    let colors = (components / (deviations * 4.0).clamp_min(1e-12) + 0.5).clamp(0.0, 1.0);
    Ok(colors.view([n, rows, columns, 3]).permute([0, 3, 1, 2]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_tensor::{Device, tch};

    #[test]
    fn equal_patches_have_one_color_in_all_images() {
        tch::set_num_threads(1);
        // Three kinds of patch in two images of 2 × 2.
        let kinds = Tensor::from_slice(&[0i64, 1, 2, 0, 1, 1, 2, 0]);
        let each =
            Tensor::from_slice(&[5f32, 0.0, 1.0, 0.0, 0.0, 3.0, 0.0, -2.0, 0.0, 0.0, -1.0, 1.0]);
        let features = each.view([3, 4]).index_select(0, &kinds);
        let maps = features.view([2, 2, 2, 4]).permute([0, 3, 1, 2]);
        let colors = patch_colors(&maps).unwrap();
        assert_eq!(colors.size(), [2, 3, 2, 2]);
        let flat = colors.permute([0, 2, 3, 1]).reshape([8, 3]);
        let differ = |a, b| (flat.get(a) - flat.get(b)).abs().max().double_value(&[]) > 0.1;
        assert!(!differ(0, 3) && !differ(0, 7) && !differ(1, 4) && !differ(2, 6));
        assert!(differ(0, 1) && differ(1, 2) && differ(0, 2));
        assert!(colors.min().double_value(&[]) >= 0.0 && colors.max().double_value(&[]) <= 1.0);
        assert!(patch_colors(&maps.narrow(1, 0, 2)).is_err());
    }

    #[test]
    fn constant_features_are_gray() {
        let maps = Tensor::ones([1, 4, 2, 2], (Kind::Double, Device::Cpu));
        assert_eq!(patch_colors(&maps).unwrap(), Tensor::full_like(&maps.narrow(1, 0, 3), 0.5));
    }
}
