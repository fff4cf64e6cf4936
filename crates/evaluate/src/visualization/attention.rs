//! Attention maps of a vision transformer as object masks, and how well they fit the true masks.
//!
//! Caron et al. 2021, *Emerging Properties in Self-Supervised Vision Transformers* (DINO), arXiv
//! 2104.14294, section 4.2.2 and figure 4.

use portolan_encoders::Vit;
use portolan_tensor::{Kind, Tensor, no_grad};

use crate::error::{Error, Result};

/// The share of a head's attention that its mask keeps: 0.6 (figure 4).
pub const ATTENTION_MASS: f64 = 0.6;

/// The attention of the last block's class token to the patches, one map per head: `[batch, heads,
/// rows, columns]`. Without its attention to itself and to registers, so that a map sums to less
/// than one.
///
/// `images`: `[batch, 3, height, width]`, normalized.
///
/// # Errors
/// When the patch size does not divide the images.
pub fn class_attention(vit: &Vit, images: &Tensor) -> Result<Tensor> {
    let attention = no_grad(|| vit.last_attention(images)).map_err(Error::dependency)?;
    let prefix = vit.prefix_tokens();
    let patches = attention.size()[3] - prefix;
    let patch = vit.config().patch;
    let (rows, columns) = (images.size()[2] / patch, images.size()[3] / patch);
    let maps = attention.select(2, 0).narrow(2, prefix, patches);
    Ok(maps.reshape([-1, vit.config().heads, rows, columns]))
}

/// The smallest set of positions of each map that holds this share (0 to 1) of its sum: bool, of
/// the maps' shape `[…, rows, columns]`. As in DINO's `visualize_attention.py`.
pub fn attention_mask(maps: &Tensor, mass: f64) -> Tensor {
    let flat = maps.flatten(-2, -1);
    let (ascending, order) = flat.sort(-1, false);
    let below = ascending.cumsum(-1, Kind::Double);
    let total = below.narrow(-1, below.size().last().copied().unwrap_or(1) - 1, 1);
    let kept = below.gt_tensor(&(total * (1.0 - mass)));
    // Undo the sorting.
    kept.gather(-1, &order.argsort(-1, false), false).view_as(maps)
}

/// Intersection over union of two masks, bool `[…, height, width]`, which may broadcast: float64
/// `[…]`. Two empty masks are equal: 1.
pub fn jaccard(a: &Tensor, b: &Tensor) -> Tensor {
    let count = |mask: Tensor| mask.flatten(-2, -1).sum_dim_intlist(-1, false, Kind::Double);
    let (both, either) = (count(a.logical_and(b)), count(a.logical_or(b)));
    both.where_self(&either.gt(0.0), &either.ones_like()) / either.clamp_min(1.0)
}

/// The Jaccard index of each image's best head, as in DINO's figure 4: `[batch]`, float64.
///
/// `maps`: `[batch, heads, rows, columns]` from [`class_attention`]; `masks`: the true masks, bool
/// `[batch, height, width]`, of a size that the grid divides.
///
/// # Errors
/// When the shapes do not match.
pub fn best_head_jaccard(maps: &Tensor, masks: &Tensor) -> Result<Tensor> {
    let (height, width) = (masks.size()[1], masks.size()[2]);
    let &[batch, _, rows, columns] = &maps.size()[..] else {
        return Err(Error::Shape(format!(
            "the maps must be [batch, heads, rows, columns], but are {:?}",
            maps.size()
        )));
    };
    if batch != masks.size()[0] || height % rows != 0 || width % columns != 0 {
        return Err(Error::Shape(format!(
            "maps of the shape {:?} do not tile masks of the shape {:?}",
            maps.size(),
            masks.size()
        )));
    }
    let found = attention_mask(maps, ATTENTION_MASS)
        .repeat_interleave_self_int(height / rows, 2, None)
        .repeat_interleave_self_int(width / columns, 3, None);
    Ok(jaccard(&found, &masks.unsqueeze(1)).amax(1, false))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portolan_encoders::VitConfig;
    use portolan_tensor::{Device, Vars, tch};

    fn map(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).view([1, 1, 2, 2])
    }

    fn mask(values: &[bool]) -> Tensor {
        Tensor::from_slice(values).view([1, 2, 2])
    }

    #[test]
    fn a_mask_holds_the_mass_and_no_smaller_one_would() {
        let kept = |values: &[f32], mass| {
            let kept = attention_mask(&map(values), mass).to_kind(Kind::Int64).flatten(0, 3);
            Vec::<i64>::try_from(kept).unwrap()
        };
        assert_eq!(kept(&[0.1, 0.5, 0.15, 0.25], 0.6), [0, 1, 0, 1]);
        assert_eq!(kept(&[0.1, 0.65, 0.15, 0.1], 0.6), [0, 1, 0, 0]);
        // Maps need not sum to one.
        assert_eq!(kept(&[0.01, 0.05, 0.015, 0.025], 0.6), [0, 1, 0, 1]);
        assert_eq!(kept(&[0.1, 0.5, 0.15, 0.25], 1.0), [1, 1, 1, 1]);
    }

    #[test]
    fn jaccard_is_intersection_over_union() {
        let a = mask(&[true, true, false, false]);
        let b = mask(&[true, false, true, false]);
        let of = |a: &Tensor, b: &Tensor| jaccard(a, b).double_value(&[0]);
        assert!((of(&a, &b) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(of(&a, &a), 1.0);
        assert_eq!(of(&a, &a.logical_not()), 0.0);
        let nothing = mask(&[false; 4]);
        assert_eq!((of(&nothing, &nothing), of(&a, &nothing)), (1.0, 0.0));
    }

    #[test]
    fn the_best_head_of_each_image_counts() {
        // The object is the left half of 4 × 4 pixels. The second head attends to it, the first
        // does not.
        let object = Tensor::from_slice(&[true, true, false, false]).repeat([4]).view([1, 4, 4]);
        let maps = Tensor::cat(&[map(&[0.1, 0.4, 0.1, 0.4]), map(&[0.4, 0.1, 0.4, 0.1])], 1);
        assert_eq!(best_head_jaccard(&maps, &object).unwrap().double_value(&[0]), 1.0);
        assert_eq!(
            best_head_jaccard(&maps.narrow(1, 0, 1), &object).unwrap().double_value(&[0]),
            0.0
        );
        assert!(best_head_jaccard(&maps, &object.narrow(1, 0, 3)).is_err());
    }

    #[test]
    fn there_is_one_map_per_head_without_class_token_and_registers() {
        tch::set_num_threads(1);
        for registers in [0, 3] {
            let config = VitConfig::named("vit_w16d2h2_patch4_16").unwrap();
            let config = VitConfig { registers, ..config };
            let vit = Vit::new(&config, &Vars::new(Device::Cpu)).unwrap();
            let images = Tensor::ones([3, 3, 16, 8], (Kind::Float, Device::Cpu));
            let maps = class_attention(&vit, &images).unwrap();
            assert_eq!(maps.size(), [3, 2, 4, 2]);
            assert!(maps.flatten(-2, -1).sum(Kind::Float).double_value(&[]) < 6.0);
            let all = vit.last_attention(&images).unwrap();
            assert!(
                maps.get(1)
                    .get(0)
                    .get(2)
                    .get(1)
                    .equal(&all.get(1).get(0).get(0).get(6 + registers))
            );
        }
    }
}
