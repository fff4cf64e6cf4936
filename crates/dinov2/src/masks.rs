//! Block masks of patches, as in BEiT and iBOT: `MaskingGenerator` and `collate_data_and_cast` of
//! the authors' code.

use portolan_losses::ibot::patch_weights;
use portolan_method::{GLOBAL_VIEWS, Result, StepContext};
use portolan_random::{Purpose, Stream};
use portolan_tensor::{Device, Kind, Tensor};
use rand::RngExt;
use rand::seq::SliceRandom;

/// The smallest area of a block, in patches (`min_num_patches`).
const SMALLEST: f64 = 4.0;
/// The flattest and the tallest aspect of a block are this and its inverse (`min_aspect`).
const ASPECT: f64 = 0.3;
/// Attempts to place a block (`_mask`).
const ATTEMPTS: usize = 10;

/// The settings of the masks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masking {
    /// Rows and columns of patches.
    pub(crate) grid: usize,
    /// The share of global views with a mask.
    pub(crate) probability: f64,
    /// The smallest and the largest share of masked patches.
    pub(crate) ratio: [f64; 2],
}

/// The masks of the global views of a batch.
#[derive(Debug)]
pub struct Masks {
    /// True where a patch is masked: `[2 · batch, patches]`.
    pub mask: Tensor,
    /// The places of the masked patches among all, `[rows]`. To fill a fixed number of rows, the
    /// last place is repeated.
    pub rows: Tensor,
    /// The weight of each row in the loss, `[rows]`; 0 for the repeated ones.
    pub weights: Tensor,
}

impl Masks {
    /// 1 for a masked patch, 0 for a row that only fills up: `[rows]`.
    pub(crate) fn counted(&self) -> Tensor {
        self.weights.gt(0.0).to_kind(Kind::Float)
    }
}

impl Masking {
    /// Draws the masks of this process's `images`, in the order of the views: view 0 of all images,
    /// then view 1.
    ///
    /// Over the whole batch, `probability` of the global views get a mask, drawn at random. The
    /// i-th of n has a ratio from the i-th of n equal strata of `ratio`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub(crate) fn draw(self, images: i64, cx: &StepContext) -> Result<Masks> {
        let rows = cx.tensor_input(move |cx| Tensor::from_slice(&self.rows(images, cx)));
        let patches = (self.grid * self.grid) as i64;
        let views = GLOBAL_VIEWS as i64 * images;
        let bool = (Kind::Bool, rows.device());
        // One place more than there are patches takes the rows that only fill up.
        let mask = Tensor::zeros([views * patches + 1], bool).index_fill(0, &rows, 1);
        let mask = mask.narrow(0, 0, views * patches).view([views, patches]);
        let weights = patch_weights(&mask)?.flatten(0, 1);
        let weights =
            Tensor::cat(&[&weights, &weights.new_zeros([1], (Kind::Float, rows.device()))], 0);
        Ok(Masks {
            weights: weights.index_select(0, &rows),
            rows: rows.clamp_max(views * patches - 1),
            mask,
        })
    }

    /// The places of the masked patches of this process, then the place after the last patch as
    /// often as needed.
    fn rows(self, images: i64, cx: &StepContext) -> Vec<i64> {
        let whole = images * cx.processes();
        let views = GLOBAL_VIEWS as i64 * whole;
        let masked = (views as f64 * self.probability) as usize;
        let mut strata: Vec<usize> = (0..views as usize).collect();
        strata.shuffle(&mut cx.rng(Purpose::Mask, 0));
        let all = Tensor::arange(views, (Kind::Int64, Device::Cpu)).view([-1, whole]);
        let own: Vec<i64> = Vec::try_from(cx.shard(&all, 1).flatten(0, 1)).expect("a vector");

        let patches = self.grid * self.grid;
        let mut rows = Vec::new();
        for (place, view) in own.iter().map(|view| *view as usize).enumerate() {
            if strata[view] < masked {
                // A stream for each view: a process need not draw the masks of the others.
                let mut rng = cx.rng(Purpose::Mask, 1 + view as u64);
                let ratio =
                    self.ratio_at((strata[view] as f64 + rng.random::<f64>()) / masked as f64);
                let mask = self.blocks((patches as f64 * ratio) as usize, &mut rng);
                let hidden = (0..patches).filter(|&patch| mask[patch]);
                rows.extend(hidden.map(|patch| (place * patches + patch) as i64));
            }
        }
        // A step that is captured in a CUDA graph, by one process alone, needs one shape at every
        // step (`upperbound` in the authors' code).
        let most = |stratum| {
            (patches as f64 * self.ratio_at((stratum + 1) as f64 / masked as f64)) as usize
        };
        let length = if cx.processes() == 1 { (0..masked).map(most).sum() } else { rows.len() };
        rows.resize(length.max(1), (own.len() * patches) as i64);
        rows
    }

    /// The ratio at a share of the way from the smallest to the largest.
    fn ratio_at(self, share: f64) -> f64 {
        let [least, most] = self.ratio;
        least + (most - least) * share
    }

    /// A mask of at most `wanted` patches, made of blocks that may overlap: `[grid · grid]`.
    fn blocks(self, wanted: usize, rng: &mut Stream) -> Vec<bool> {
        let mut mask = vec![false; self.grid * self.grid];
        // `max_num_patches`: no block is larger than half of the patches.
        let largest = mask.len() / 2;
        let mut left = wanted;
        while left > 0 {
            match self.add_block(&mut mask, left.min(largest), rng) {
                0 => break,
                added => left -= added,
            }
        }
        mask
    }

    /// Adds a block that masks at most `most` further patches. Returns how many it masks.
    fn add_block(self, mask: &mut [bool], most: usize, rng: &mut Stream) -> usize {
        let grid = self.grid;
        for _ in 0..ATTEMPTS {
            let area = SMALLEST + (most as f64 - SMALLEST) * rng.random::<f64>();
            let aspect = (ASPECT.ln() * (1.0 - 2.0 * rng.random::<f64>())).exp();
            let height = (area * aspect).sqrt().round() as usize;
            let width = (area / aspect).sqrt().round() as usize;
            if height >= grid || width >= grid {
                continue;
            }
            let (top, left) =
                (rng.random_range(0..=grid - height), rng.random_range(0..=grid - width));
            let block = (top..top + height)
                .flat_map(|row| (left..left + width).map(move |column| row * grid + column));
            let new: Vec<usize> = block.filter(|&patch| !mask[patch]).collect();
            if !new.is_empty() && new.len() <= most {
                new.iter().for_each(|&patch| mask[patch] = true);
                return new.len();
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn context() -> StepContext<'static> {
        StepContext::new(0, 10, Device::Cpu).with_seed(3)
    }

    const MASKING: Masking = Masking { grid: 14, probability: 0.5, ratio: [0.1, 0.5] };

    fn per_view(masks: &Masks) -> Vec<i64> {
        let sums = masks.mask.sum_dim_intlist([-1i64].as_slice(), false, Kind::Int64);
        Vec::try_from(sums).unwrap()
    }

    #[test]
    fn half_of_the_views_have_masks_with_ratios_from_equal_strata() {
        let masks = MASKING.draw(32, &context()).unwrap();
        assert_eq!(masks.mask.size(), [64, 196]);
        let mut counts: Vec<i64> = per_view(&masks).into_iter().filter(|&n| n > 0).collect();
        counts.sort_unstable();
        assert_eq!(counts.len(), 32);
        // Stratum i is from 0.1 + 0.4 i/32 to 0.1 + 0.4 (i+1)/32 of 196 patches. A mask may stay
        // below, when ten attempts at a last block fail.
        let upper = |i: usize| 196.0 * (0.1 + 0.4 * (i + 1) as f64 / 32.0);
        assert!(counts.iter().enumerate().all(|(i, &n)| n as f64 <= upper(i)), "{counts:?}");
        let mean = counts.iter().sum::<i64>() as f64 / 32.0 / 196.0;
        assert!((0.28..=0.30).contains(&mean), "{mean}");
    }

    #[test]
    fn rows_are_the_masked_patches_and_have_one_length() {
        for step in [0, 1] {
            let masks = MASKING.draw(8, &context().with_step(step)).unwrap();
            // Σ over i < 8 of ⌊196 (0.1 + 0.4 (i+1)/8)⌋ = 29 + 39 + 49 + 58 + 68 + 78 + 88 + 98.
            assert_eq!(masks.rows.size(), [507]);
            let counted: i64 = masks.counted().sum(Kind::Int64).int64_value(&[]);
            let flat = masks.mask.flatten(0, 1);
            assert_eq!(counted, flat.sum(Kind::Int64).int64_value(&[]));
            let own = masks.rows.narrow(0, 0, counted);
            assert_eq!(own, flat.nonzero().flatten(0, 1), "in order");
            // 8 of 16 views count 1/16 each.
            assert!((masks.weights.sum(Kind::Double).double_value(&[]) - 0.5).abs() < 1e-6);
        }
    }

    #[test]
    fn draws_repeat_and_differ_by_step_and_view() {
        let draw = |step| MASKING.draw(4, &context().with_step(step)).unwrap().mask;
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
    }

    #[test]
    fn blocks_are_rectangles_of_four_patches_or_more_and_not_too_narrow() {
        let mut rng = context().rng(Purpose::Mask, 9);
        for _ in 0..200 {
            let mut mask = vec![false; 196];
            let added = MASKING.add_block(&mut mask, 60, &mut rng);
            let masked: Vec<usize> = (0..196).filter(|&patch| mask[patch]).collect();
            let (rows, columns): (Vec<_>, Vec<_>) =
                masked.iter().map(|patch| (patch / 14, patch % 14)).unzip();
            let span = |of: &[usize]| of.iter().max().unwrap() - of.iter().min().unwrap() + 1;
            let (height, width) = (span(&rows), span(&columns));
            assert_eq!(height * width, added, "a full rectangle");
            // 4 to 60 patches of aspect 0.3 to 1/0.3, each side rounded to the nearest number.
            assert!((3..=60).contains(&added), "{height} by {width}");
            let aspect = (height as f64 + 0.5) / (width as f64 - 0.5);
            let inverse = (width as f64 + 0.5) / (height as f64 - 0.5);
            assert!(aspect.min(inverse) >= 0.3, "{height} by {width}");
        }
    }
}
