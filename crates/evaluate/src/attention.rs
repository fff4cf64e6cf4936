//! What a vision transformer looks at: its attention as a mask of the object, and how well that fits the true one.
//!
//! Caron et al. 2021, *Emerging Properties in Self-Supervised Vision Transformers* (DINO), arXiv 2104.14294,
//! section 4.2.2 and figure 4.

use anyhow::{Result, ensure};
use portolan_encoders::Vit;
use portolan_tensor::{Kind, Tensor, no_grad};

/// The share of its attention that a head's mask keeps: 0.6 (figure 4).
pub const ATTENTION_MASS: f64 = 0.6;

/// What the class token of the last block looks at, a map a head: `[batch, heads, rows, columns]`. The attention that it
/// pays to itself is left out, so a map sums to less than one.
///
/// `images`: `[batch, 3, height, width]`, normalized.
///
/// # Errors
/// When the transformer's patch does not divide the images.
pub fn class_attention(vit: &Vit, images: &Tensor) -> Result<Tensor> {
    let attention = no_grad(|| vit.last_attention(images))?;
    let patches = attention.size()[3] - 1;
    let patch = vit.config().patch;
    let (rows, columns) = (images.size()[2] / patch, images.size()[3] / patch);
    let maps = attention.select(2, 0).narrow(2, 1, patches);
    Ok(maps.reshape([-1, vit.config().heads, rows, columns]))
}

/// The fewest places of each map that hold this share (0 to 1) of its sum: bool, of the maps' shape
/// `[…, rows, columns]`. As in DINO's `visualize_attention.py`.
pub fn heaviest(maps: &Tensor, mass: f64) -> Tensor {
    let flat = maps.flatten(-2, -1);
    let (ascending, order) = flat.sort(-1, false);
    let below = ascending.cumsum(-1, Kind::Double);
    let total = below.narrow(-1, below.size().last().copied().unwrap_or(1) - 1, 1);
    let kept = below.gt_tensor(&(total * (1.0 - mass)));
    // Where each place came in the order, to bring the answers back to the places.
    kept.gather(-1, &order.argsort(-1, false), false).view_as(maps)
}

/// Intersection over union of two masks, for each of the leading dimensions: bool `[…, height, width]` each, which may
/// broadcast, to float64 `[…]`. Two empty masks are equal: 1.
pub fn jaccard(a: &Tensor, b: &Tensor) -> Tensor {
    let count = |mask: Tensor| mask.flatten(-2, -1).sum_dim_intlist(-1, false, Kind::Double);
    let (both, either) = (count(a.logical_and(b)), count(a.logical_or(b)));
    both.where_self(&either.gt(0.0), &either.ones_like()) / either.clamp_min(1.0)
}

/// How well attention finds objects, by the rule of DINO's figure 4.
///
/// `maps`: `[batch, heads, rows, columns]`, as [`class_attention`] gives them; `masks`: bool `[batch, height, width]`, the
/// true ones, of a size that the grid divides. Of each image the head that fits best counts: `[batch]`, float64.
///
/// # Errors
/// When the shapes do not fit.
pub fn best_head_jaccard(maps: &Tensor, masks: &Tensor) -> Result<Tensor> {
    let (height, width) = (masks.size()[1], masks.size()[2]);
    let &[batch, _, rows, columns] = &maps.size()[..] else {
        anyhow::bail!("the maps must be [batch, heads, rows, columns], but are {:?}", maps.size())
    };
    ensure!(
        batch == masks.size()[0] && height % rows == 0 && width % columns == 0,
        "maps of the shape {:?} do not tile masks of the shape {:?}",
        maps.size(),
        masks.size()
    );
    let found = heaviest(maps, ATTENTION_MASS)
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
    fn the_heaviest_places_hold_the_mass_and_no_fewer_would() {
        let kept = |values: &[f32], mass| {
            let kept = heaviest(&map(values), mass).to_kind(Kind::Int64).flatten(0, 3);
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
        // The object is the left half of 4 × 4 pixels; the second head looks at it, the first one elsewhere.
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
    fn there_is_a_map_a_head_without_the_class_token_itself() {
        tch::set_num_threads(1);
        let config = VitConfig::named("vit_w16d2h2_patch4_16").unwrap();
        let vit = Vit::new(&config, &Vars::new(Device::Cpu)).unwrap();
        let images = Tensor::ones([3, 3, 16, 8], (Kind::Float, Device::Cpu));
        let maps = class_attention(&vit, &images).unwrap();
        assert_eq!(maps.size(), [3, 2, 4, 2]);
        assert!(maps.flatten(-2, -1).sum(Kind::Float).double_value(&[]) < 6.0);
    }
}
