//! Which vision transformer.

use crate::transformer::Init;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// What the features of an image are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The class token after the last norm (timm's `global_pool="token"`).
    ClassToken,
    /// The mean of the patches' tokens after the last norm (timm's `global_pool="avg", fc_norm=False`).
    Mean,
    /// The mean of the patches' tokens, then a norm, `fc_norm`, in the place of the last one (timm's
    /// `global_pool="avg", fc_norm=True`; MAE's `models_vit.py` with `--global_pool`).
    MeanThenNorm,
}

/// How the network is told where a patch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Trained vectors, as in the paper.
    Learned,
    /// Fixed sines and cosines, as in MoCo v3 and MAE.
    SineCosine,
}

/// How positions are interpolated for images of another size than theirs; bicubic, without antialiasing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionScaling {
    /// The corners of the two grids coincide: one position is `from / to` patches from the next.
    #[default]
    Size,
    /// One position is `from / (to + 0.1)` patches from the next, as DINO's `interpolate_pos_encoding` hands
    /// `scale_factor` to PyTorch: 224 px to 96 px at a patch of 16 shifts the last position by 0.2 of a patch.
    ScaleFactor,
}

/// A vision transformer and how it is built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Numbers of a token.
    pub width: i64,
    /// Blocks.
    pub depth: i64,
    /// Heads of attention.
    pub heads: i64,
    /// Side of a patch in pixels.
    pub patch: i64,
    /// Side of the images in pixels that the positions are made for; others are interpolated.
    pub image: i64,
    /// What the features are.
    pub pool: Pool,
    /// How places are told.
    pub positions: Positions,
    /// How positions are interpolated for images of another size.
    #[serde(default)]
    pub position_scaling: PositionScaling,
    /// Whether pretraining leaves the projection of patches as it was drawn (MoCo v3, section 4.2). Training with
    /// labels moves it (see [`VitConfig::finetuned`]).
    pub frozen_patches: bool,
    /// Stochastic depth: with what probability the last block's branches are left out in training; those
    /// before it, proportionally less. 0.1 in DINO's code, 0 in most.
    pub drop_path: f64,
    /// How the matrices begin.
    pub init: Init,
    /// Whether blocks keep nothing for their backward pass and are run once more in it: a third more time for a
    /// fraction of the memory.
    #[serde(default)]
    pub recompute: bool,
}

/// Name, width, depth, heads: Ti and S of Touvron et al. 2020 (arXiv 2012.12877, table 1), B and L of
/// Dosovitskiy et al. 2020 (table 1).
pub(crate) const SIZES: [(&str, [i64; 3]); 4] = [
    ("tiny", [192, 12, 3]),
    ("small", [384, 12, 6]),
    ("base", [768, 12, 12]),
    ("large", [1024, 24, 16]),
];

impl VitConfig {
    /// The transformer of this name, as timm writes it: `vit_small_patch16_224`, with `tiny`, `small`, `base`
    /// or `large`, the side of a patch and of the image; or with a size of one's own, `w128d6h4` for 128 numbers a
    /// token, 6 blocks and 4 heads.
    ///
    /// # Errors
    /// When it is no such name.
    pub fn named(name: &str) -> Result<Self> {
        let parts: Vec<&str> = name.split('_').collect();
        let form = || {
            format!(
                "`{name}` names no vision transformer; write vit_small_patch16_224, with tiny, small, base, \
                 large or a size like w128d6h4"
            )
        };
        let ["vit", size, patch, image] = parts[..] else { anyhow::bail!(form()) };
        let number = |text: &str| text.parse::<i64>().ok();
        let [width, depth, heads] = SIZES
            .iter()
            .find(|(known, _)| *known == size)
            .map(|(_, size)| *size)
            .or_else(|| own_size(size))
            .with_context(form)?;
        let patch = patch.strip_prefix("patch").and_then(number).with_context(form)?;
        Ok(Self::plain([width, depth, heads], patch, number(image).with_context(form)?))
    }

    /// The usual transformer of this width, depth and number of heads, with patches and images of these sides in pixels.
    pub fn plain([width, depth, heads]: [i64; 3], patch: i64, image: i64) -> Self {
        VitConfig {
            width,
            depth,
            heads,
            patch,
            image,
            pool: Pool::ClassToken,
            positions: Positions::Learned,
            position_scaling: PositionScaling::Size,
            frozen_patches: false,
            drop_path: 0.0,
            init: Init::Normal,
            recompute: false,
        }
    }

    /// The same transformer as it is trained with labels, with stochastic depth up to `drop_path` (MAE's
    /// `models_vit.py` with `--global_pool`): every tensor is trained, patch projection and positions too, whatever
    /// pretraining left fixed, and the patches' mean goes through a norm of its own.
    pub fn finetuned(&self, drop_path: f64) -> Self {
        VitConfig {
            pool: Pool::MeanThenNorm,
            positions: Positions::Learned,
            frozen_patches: false,
            drop_path,
            ..self.clone()
        }
    }

    /// The name that [`VitConfig::named`] knows it by.
    pub fn name(&self) -> String {
        let &VitConfig { width, depth, heads, patch, image, .. } = self;
        let known = SIZES.iter().find(|(_, size)| *size == [width, depth, heads]);
        let size = known
            .map_or_else(|| format!("w{width}d{depth}h{heads}"), |(name, _)| (*name).to_owned());
        format!("vit_{size}_patch{patch}_{image}")
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let &VitConfig { width, depth, heads, patch, image, .. } = self;
        ensure!(
            patch >= 1 && image >= patch && image % patch == 0,
            "patches of {patch} pixels do not tile an image of {image}; choose a patch that divides it"
        );
        ensure!((1..=100).contains(&depth), "depth is {depth}; it must be from 1 to 100");
        ensure!(
            heads >= 1 && width >= 4 && width % heads == 0 && width % 4 == 0,
            "width is {width} and heads {heads}; the width must be a multiple of 4 and of the heads"
        );
        ensure!(
            width <= 8192 && image <= 8192 && 12 * depth * width * width < 1 << 32,
            "a transformer of width {width} and depth {depth} for images of {image} pixels is beyond what can be built"
        );
        ensure!(
            (0.0..1.0).contains(&self.drop_path),
            "drop_path is {}; it must be from 0 to below 1",
            self.drop_path
        );
        Ok(())
    }
}

/// `w128d6h4` to 128, 6, 4.
fn own_size(text: &str) -> Option<[i64; 3]> {
    let (width, rest) = text.strip_prefix('w')?.split_once('d')?;
    let (depth, heads) = rest.split_once('h')?;
    Some([width.parse().ok()?, depth.parse().ok()?, heads.parse().ok()?])
}
