//! The settings of a vision transformer.

use portolan_tensor::Vars;
use serde::{Deserialize, Serialize};

use crate::transformer::{BlockConfig, Init, Mlp};
use crate::{Encoder, Error, Family, Finetuned, Result, Vit};

/// How the tokens are pooled to the features of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The class token after the last norm (timm's `global_pool="token"`).
    ClassToken,
    /// The mean of the patch tokens after the last norm (timm's
    /// `global_pool="avg", fc_norm=False`).
    Mean,
    /// The mean of the patch tokens, then a norm, `fc_norm`, instead of the last norm (timm's
    /// `global_pool="avg", fc_norm=True`; MAE's `models_vit.py` with `--global_pool`).
    MeanThenNorm,
}

/// The position embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Trained, as in the paper.
    Learned,
    /// Fixed sines and cosines, as in MoCo v3 and MAE.
    SineCosine,
}

/// How position embeddings are interpolated (bicubic, without antialiasing) for images of another
/// size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionScaling {
    /// The corners of the two grids coincide: positions are `from / to` patches apart.
    #[default]
    Size,
    /// Positions are `from / (to + 0.1)` patches apart, as DINO's `interpolate_pos_encoding` passes
    /// `scale_factor` to PyTorch. From 224 px to 96 px with patches of 16, the last position shifts
    /// by 0.2 patches.
    ScaleFactor,
}

/// The settings of a vision transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// The dimension of a token.
    pub width: i64,
    /// The number of blocks.
    pub depth: i64,
    /// The number of attention heads.
    pub heads: i64,
    /// The side of a patch in pixels.
    pub patch: i64,
    /// The side in pixels of the images that the position embeddings are for. For other images they
    /// are interpolated.
    pub image: i64,
    /// How the tokens are pooled.
    pub pool: Pool,
    /// The position embeddings.
    pub positions: Positions,
    /// How position embeddings are interpolated for images of another size.
    #[serde(default)]
    pub position_scaling: PositionScaling,
    /// Whether the class token has a place in the position embeddings. timm's and DeiT III's
    /// transformers with `no_embed_class` have none.
    #[serde(default = "yes")]
    pub class_position: bool,
    /// The number of registers, further tokens that no one reads (Darcet et al. 2023,
    /// arXiv:2309.16588). 4 in DINOv2's `reg4` encoders and in DINOv3, else 0.
    #[serde(default)]
    pub registers: i64,
    /// Whether there is a token that replaces masked patches (see [`Vit::tokens`]).
    #[serde(default)]
    pub mask_token: bool,
    /// The form of the blocks' MLP.
    #[serde(default)]
    pub mlp: Mlp,
    /// The initial value of LayerScale (Touvron et al. 2021, arXiv:2103.17239), or 0 for none. 1e-5
    /// in DINOv2's configs and DINOv3.
    #[serde(default)]
    pub layer_scale: f64,
    /// Whether the patch projection keeps its initial values in pretraining (MoCo v3, section 4.2).
    /// Fine-tuning trains it (see [`Family::finetuned`]).
    pub frozen_patches: bool,
    /// Stochastic depth: the probability with which training skips the last block's branches. 0.1
    /// in DINO's code, 0 in most.
    pub drop_path: f64,
    /// Whether `drop_path` is the same in all blocks, as in DINOv2, or grows linearly from 0 in the
    /// first block.
    #[serde(default)]
    pub drop_path_uniform: bool,
    /// The initial values.
    pub init: Init,
    /// Activation checkpointing: whether blocks run again in the backward pass instead of keeping
    /// activations. It takes a third more time and a fraction of the memory.
    #[serde(default)]
    pub recompute: bool,
}

/// Name, width, depth, heads: Ti and S of Touvron et al. 2020 (arXiv 2012.12877, table 1), B and L
/// of Dosovitskiy et al. 2020 (table 1).
const SIZES: [(&str, [i64; 3]); 4] = [
    ("tiny", [192, 12, 3]),
    ("small", [384, 12, 6]),
    ("base", [768, 12, 12]),
    ("large", [1024, 24, 16]),
];

impl VitConfig {
    /// The transformer of this name, as timm writes it, with its usual settings:
    /// `vit_small_patch16_224`, with `tiny`, `small`, `base` or `large`, the side of a patch and
    /// that of the image. Other sizes are written as `w128d6h4`: 128 numbers per token, 6 blocks
    /// and 4 heads.
    ///
    /// # Errors
    /// When the name has another form.
    pub fn named(name: &str) -> Result<Self> {
        let parts: Vec<&str> = name.split('_').collect();
        let form = || {
            Error::UnknownName(format!(
                "`{name}` names no vision transformer; write vit_small_patch16_224, with tiny, \
                 small, base, large or a size like w128d6h4"
            ))
        };
        let ["vit", size, patch, image] = parts[..] else { return Err(form()) };
        let number = |text: &str| text.parse::<i64>().ok();
        let [width, depth, heads] = SIZES
            .iter()
            .find(|(known, _)| *known == size)
            .map(|(_, size)| *size)
            .or_else(|| parse_size(size))
            .ok_or_else(form)?;
        let patch = patch.strip_prefix("patch").and_then(number).ok_or_else(form)?;
        Ok(Self::plain([width, depth, heads], patch, number(image).ok_or_else(form)?))
    }

    /// The transformer of this width, depth and number of heads, with patches and images of these
    /// sides in pixels, with the usual settings.
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
            class_position: true,
            registers: 0,
            mask_token: false,
            mlp: Mlp::Gelu,
            layer_scale: 0.0,
            frozen_patches: false,
            drop_path: 0.0,
            drop_path_uniform: false,
            init: Init::Normal,
            recompute: false,
        }
    }

    /// The settings of block `i`, counted from 0.
    pub(super) fn block(&self, i: i64) -> BlockConfig {
        let &VitConfig { width, heads, mlp, init, layer_scale, .. } = self;
        let last = (self.depth - 1).max(1) as f64;
        let share = if self.drop_path_uniform { 1.0 } else { i as f64 / last };
        BlockConfig { width, heads, mlp, init, layer_scale, drop_path: self.drop_path * share }
    }
}

fn yes() -> bool {
    true
}

impl Family for VitConfig {
    fn parse(name: &str) -> Option<Result<Self>> {
        name.starts_with("vit_").then(|| VitConfig::named(name))
    }

    fn known_names() -> String {
        let names = SIZES.map(|(size, _)| format!("vit_{size}_patch16_224"));
        format!("{}, also with other patches and images", names.join(", "))
    }

    fn name(&self) -> String {
        let &VitConfig { width, depth, heads, patch, image, .. } = self;
        let known = SIZES.iter().find(|(_, size)| *size == [width, depth, heads]);
        let size = known
            .map_or_else(|| format!("w{width}d{depth}h{heads}"), |(name, _)| (*name).to_owned());
        format!("vit_{size}_patch{patch}_{image}")
    }

    fn size_keys(&self) -> &'static [&'static str] {
        &["width", "depth", "heads", "patch", "image"]
    }

    fn validate(&self) -> Result<()> {
        let &VitConfig { width, depth, heads, patch, image, registers, .. } = self;
        let &VitConfig { drop_path, layer_scale, .. } = self;
        let problem = if !(patch >= 1 && image >= patch && image % patch == 0) {
            format!(
                "patches of {patch} pixels do not tile an image of {image}; choose a patch that \
                 divides it"
            )
        } else if !(1..=100).contains(&depth) {
            format!("depth is {depth}; it must be from 1 to 100")
        } else if !(heads >= 1 && width >= 4 && width % heads == 0 && width % 4 == 0) {
            format!(
                "width is {width} and heads {heads}; the width must be a multiple of 4 and of the \
                 heads"
            )
        } else if !(width <= 8192 && image <= 8192 && 12 * depth * width * width < 1 << 32) {
            format!(
                "a transformer of width {width} and depth {depth} for images of {image} pixels is \
                 beyond what can be built"
            )
        } else if !(0.0..1.0).contains(&drop_path) {
            format!("drop_path is {drop_path}; it must be from 0 to below 1")
        } else if !(0..=1024).contains(&registers) {
            format!("registers is {registers}; it must be from 0 to 1024")
        } else if !(0.0..=10.0).contains(&layer_scale) {
            format!("layer_scale is {layer_scale}; it must be from 0 (none) to 10")
        } else {
            return Ok(());
        };
        Err(Error::Setting(problem))
    }

    fn build(&self, vars: &Vars) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(Vit::new(self, vars)?))
    }

    fn validate_size(&self, size: i64) -> Result<()> {
        let patch = self.patch;
        if size > 0 && patch > 0 && size % patch == 0 {
            return Ok(());
        }
        Err(Error::ImageSize(format!(
            "patches of {patch} pixels do not tile a view of {size}; choose a patch or a size that \
             fits"
        )))
    }

    fn patch(&self) -> Option<i64> {
        Some(self.patch)
    }

    fn recomputes(&self) -> bool {
        self.recompute
    }

    /// A block keeps some 17 numbers for each number of a token, and the attention of every pair.
    fn activations(&self, side: f64) -> f64 {
        let tokens = (side / self.patch as f64).powi(2) + 1.0 + self.registers as f64;
        let (width, heads) = (self.width as f64, self.heads as f64);
        self.depth as f64 * tokens * (17.0 * width + 2.0 * heads * tokens)
    }

    /// As in MAE's `models_vit.py` with `--global_pool`: the mean of the patch tokens goes through
    /// a norm of its own, and every tensor is trained, also those that pretraining leaves fixed.
    fn finetuned(&self, drop_path: f64) -> Option<Finetuned> {
        let config = VitConfig {
            pool: Pool::MeanThenNorm,
            positions: Positions::Learned,
            frozen_patches: false,
            drop_path,
            ..self.clone()
        };
        let dropped = match self.pool {
            Pool::MeanThenNorm => "fc_norm.", // fine-tuned before; it gets a new one
            Pool::ClassToken | Pool::Mean => "norm.",
        };
        Some(Finetuned {
            config: Box::new(config),
            dropped: Some(dropped),
            added: Some("fc_norm."),
        })
    }
}

/// `w128d6h4` to 128, 6, 4.
fn parse_size(text: &str) -> Option<[i64; 3]> {
    let (width, rest) = text.strip_prefix('w')?.split_once('d')?;
    let (depth, heads) = rest.split_once('h')?;
    Some([width.parse().ok()?, depth.parse().ok()?, heads.parse().ok()?])
}
