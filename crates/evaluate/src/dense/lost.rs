//! LOST: the box of an object from the features of patches alone, without labels (Siméoni et al.
//! 2021, *Localizing Objects with Self-Supervised Transformers and no Labels*, arXiv 2109.14279).

use portolan_encoders::Vit;
use portolan_tensor::{Device, Kind, Tensor, no_grad};
use std::ops::Range;

use crate::error::{Error, Result};

/// The patches of smallest degree among which those of the object are searched: k = 100 (section
/// 4.1), at most a seventh of the patches. 100 is a seventh of the patches of 16 pixels in a
/// photograph of Pascal VOC (500 × 375 pixels); small images would have their background searched.
const MOST_EXPANDED: usize = 100;
const EXPANDED_SHARE: usize = 7;
/// A box is right if it shares this much of what it and the true box cover (section 4.1).
const RIGHT: f64 = 0.5;

/// A box of pixels or patches; its right column and bottom row are outside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Its columns.
    pub columns: Range<i64>,
    /// Its rows.
    pub rows: Range<i64>,
}

/// What LOST finds in one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The box of the object, in patches.
    pub area: Area,
    /// The patch that the search starts from, as (row, column).
    pub seed: (i64, i64),
}

impl Area {
    /// The box around the pixels of a mask, bool `[height, width]`; `None` if there are none.
    ///
    /// # Errors
    /// When the mask has another shape.
    pub fn around(mask: &Tensor) -> Result<Option<Self>> {
        mask.size2()?;
        let span = |dim: i64| -> Result<Option<Range<i64>>> {
            let any = Vec::<bool>::try_from(mask.any_dim(dim, false))?;
            let first = any.iter().position(|&covered| covered);
            let last = any.iter().rposition(|&covered| covered);
            Ok(first.zip(last).map(|(first, last)| first as i64..last as i64 + 1))
        };
        Ok(span(0)?.zip(span(1)?).map(|(columns, rows)| Area { columns, rows }))
    }

    /// The box in units that are `factor` times smaller: from patches to pixels.
    #[must_use]
    pub fn scaled(&self, factor: i64) -> Self {
        let of = |span: &Range<i64>| span.start * factor..span.end * factor;
        Area { columns: of(&self.columns), rows: of(&self.rows) }
    }

    /// Intersection over union with another box.
    pub fn iou(&self, other: &Area) -> f64 {
        let shared =
            |a: &Range<i64>, b: &Range<i64>| (a.end.min(b.end) - a.start.max(b.start)).max(0);
        let both = shared(&self.columns, &other.columns) * shared(&self.rows, &other.rows);
        let size = |area: &Area| {
            (area.columns.end - area.columns.start) * (area.rows.end - area.rows.start)
        };
        both as f64 / (size(self) + size(other) - both) as f64
    }

    /// Whether this box counts as finding the object of `truth`: CorLoc is the share of images
    /// where it does.
    pub fn finds(&self, truth: &Area) -> bool {
        self.iou(truth) >= RIGHT
    }
}

/// Finds the object in each image (`[n, 3, height, width]`, normalized, on the network's device) by
/// [`lost`] on the keys of the last block, as the authors do.
///
/// # Errors
/// When the patch does not divide the images, or the keys are not finite.
pub fn discover_objects(vit: &Vit, images: &Tensor) -> Result<Vec<Discovery>> {
    let keys = no_grad(|| vit.last_keys(images)).map_err(Error::dependency)?;
    let keys = keys.to_device(Device::Cpu);
    let patch = vit.config().patch;
    let (rows, columns) = (images.size()[2] / patch, images.size()[3] / patch);
    (0..keys.size()[0]).map(|image| lost(&keys.get(image), rows, columns)).collect()
}

/// Finds the object in an image by the features of its patches, `[rows · columns, width]`, row by
/// row. The authors use the keys of the last block
/// ([`Vit::last_keys`](portolan_encoders::Vit::last_keys)).
///
/// Two patches are alike if the product of their features is positive. The seed is the patch that
/// is like the fewest others, since objects are smaller than their background. The patches of
/// smallest degree that are like the seed vote for the object's patches; the box surrounds those
/// that are connected to the seed (section 3, and `object_discovery.py` of valeoai/LOST).
///
/// # Errors
/// When the features are not those of such a grid, or not finite.
pub fn lost(features: &Tensor, rows: i64, columns: i64) -> Result<Discovery> {
    let (patches, _) = features.size2()?;
    if patches != rows * columns || patches == 0 {
        return Err(Error::Shape(format!(
            "{patches} patches are no grid of {rows} rows and {columns} columns"
        )));
    }
    let x = features.to_device(Device::Cpu).to_kind(Kind::Float);
    if !bool::try_from(x.isfinite().all())? {
        return Err(Error::NotFinite);
    }
    let n = patches as usize;
    let similarities = Vec::<f32>::try_from(x.matmul(&x.tr()).view([-1]))?;
    let like = |a: usize, b: usize| similarities[a * n + b] > 0.0;
    let degree = |a: usize| (0..n).filter(|&b| b != a && like(a, b)).count();
    // Among equal degrees the first patch comes first.
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_cached_key(|&patch| degree(patch));
    let seed = order[0];
    let expanded = MOST_EXPANDED.min(n.div_ceil(EXPANDED_SHARE));
    let similar: Vec<usize> =
        order.into_iter().take(expanded).filter(|&patch| like(seed, patch)).collect();
    let votes = |patch: usize| similar.iter().map(|&s| similarities[s * n + patch]).sum::<f32>();
    let object: Vec<bool> = (0..n).map(|patch| votes(patch) > 0.0).collect();
    let width = columns as usize;
    let connected = connected(&object, width, seed);
    let span = |of: fn(usize, usize) -> usize| {
        let places = || connected.iter().map(|&patch| of(patch, width) as i64);
        places().min().unwrap_or(0)..places().max().unwrap_or(0) + 1
    };
    let area =
        Area { columns: span(|patch, width| patch % width), rows: span(|p, width| p / width) };
    Ok(Discovery { area, seed: ((seed / width) as i64, (seed % width) as i64) })
}

/// The patches of `object` that are connected to `seed` by their sides, and `seed`.
fn connected(object: &[bool], width: usize, seed: usize) -> Vec<usize> {
    let mut seen = vec![false; object.len()];
    let (mut found, mut next) = (Vec::new(), vec![seed]);
    seen[seed] = true;
    while let Some(patch) = next.pop() {
        found.push(patch);
        let column = patch % width;
        let beside = [
            (column > 0).then(|| patch - 1),
            (column + 1 < width).then(|| patch + 1),
            patch.checked_sub(width),
            Some(patch + width).filter(|&below| below < object.len()),
        ];
        for patch in beside.into_iter().flatten() {
            if object[patch] && !seen[patch] {
                seen[patch] = true;
                next.push(patch);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn area(columns: Range<i64>, rows: Range<i64>) -> Area {
        Area { columns, rows }
    }

    /// Features of a grid of 6 × 7 patches: one direction in the object, the opposite elsewhere.
    fn features(object: impl Fn(i64, i64) -> bool) -> Tensor {
        let of = |i: i64| if object(i / 7, i % 7) { [1f32, 0.2] } else { [-1.0, 0.2] };
        let values: Vec<f32> = (0..42).flat_map(of).collect();
        Tensor::from_slice(&values).view([42, 2])
    }

    #[test]
    fn the_box_surrounds_the_smaller_of_two_regions() {
        let square = |row, column| (1..4).contains(&row) && (2..6).contains(&column);
        let found = lost(&features(square), 6, 7).unwrap();
        assert_eq!(found, Discovery { area: area(2..6, 1..4), seed: (1, 2) });
    }

    #[test]
    fn patches_apart_from_the_seed_are_no_part_of_the_box() {
        // A corner that is like the object, but touches it nowhere, not even by a corner.
        let two = |row, column| (row < 2 && column < 3) || (row == 5 && column == 6);
        assert_eq!(lost(&features(two), 6, 7).unwrap().area, area(0..3, 0..2));
        // Touching by a corner is not being connected.
        let diagonal = |row, column| (row < 2 && column < 2) || (row == 2 && column == 2);
        assert_eq!(lost(&features(diagonal), 6, 7).unwrap().area, area(0..2, 0..2));
    }

    #[test]
    fn features_without_structure_give_the_seed_or_the_whole_image() {
        let zero = features(|_, _| true) * 0.0;
        assert_eq!(lost(&zero, 6, 7).unwrap().area, area(0..1, 0..1));
        assert_eq!(lost(&features(|_, _| true), 6, 7).unwrap().area, area(0..7, 0..6));
        assert!(lost(&zero, 6, 6).is_err());
        assert!(lost(&(zero / 0.0), 6, 7).is_err());
    }

    #[test]
    fn boxes_are_compared_by_what_they_share() {
        let a = area(0..4, 0..2);
        assert_eq!((a.iou(&a), a.iou(&area(4..6, 0..2))), (1.0, 0.0));
        assert_eq!(a.iou(&area(0..2, 0..2)), 0.5);
        assert!(a.finds(&area(0..2, 0..2)) && !a.finds(&area(0..2, 0..1)));
        assert_eq!(area(0..1, 1..3).scaled(4), area(0..4, 4..12));
    }

    #[test]
    fn the_box_of_a_mask_ends_where_it_does() {
        let mask = Tensor::from_slice(&[
            false, false, false, false, //
            false, true, false, false, //
            false, false, true, false,
        ]);
        let mask = mask.view([3, 4]);
        assert_eq!(Area::around(&mask).unwrap(), Some(area(1..3, 1..3)));
        assert_eq!(Area::around(&mask.zeros_like()).unwrap(), None);
    }
}
