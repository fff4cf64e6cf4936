//! The settings of a vision transformer.

use portolan_tensor::Vars;
use serde::{Deserialize, Serialize};

use super::names::{self, Kind, Named};
use crate::transformer::{BlockConfig, Init, Mlp, QkvBias};
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
    /// None are added. Queries and keys turn by the place of their patch, as in DINOv3. With them,
    /// LayerScale and biases have the names of timm's `eva.py`.
    Rotary,
}

/// How position embeddings are interpolated (bicubic) for images of another size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionScaling {
    /// The corners of the two grids coincide: positions are `from / to` patches apart.
    #[default]
    Size,
    /// Positions are `from / (to + 0.1)` patches apart, as DINO's `interpolate_pos_encoding` passes
    /// `scale_factor` to PyTorch. From 224 px to 96 px with patches of 16, the last position shifts
    /// by 0.2 patches. DINOv2's encoders without registers do the same.
    ScaleFactor,
    /// As `Size`, with antialiasing, which also has another cubic kernel when there are more
    /// positions than before. As in timm's `resample_abs_pos_embed` and in DINOv2's encoders with
    /// registers (`interpolate_antialias`).
    Antialias,
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
    /// Which of queries, keys and values have a bias.
    #[serde(default)]
    pub qkv_bias: QkvBias,
    /// What layer norms add to a variance: 1e-6 in most, 1e-5 in DINOv3 and CLIP.
    #[serde(default = "usual_eps")]
    pub norm_eps: f64,
    /// Whether a norm precedes the blocks, and the patch projection has no bias, as in CLIP's image
    /// tower.
    #[serde(default)]
    pub pre_norm: bool,
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

/// The settings that a name of timm's determines in every case.
const SIZE_KEYS: &[&str] = &["width", "depth", "heads", "patch", "image"];
/// Those that the names of DINOv2, DINOv3, DeiT III and CLIP determine.
#[rustfmt::skip]
const KIND_KEYS: &[&str] = &[
    "width", "depth", "heads", "patch", "image", "positions", "position_scaling", "class_position",
    "registers", "mlp", "qkv_bias", "norm_eps", "pre_norm", "layer_scale",
];

impl VitConfig {
    /// The transformer of this name, as timm writes it, with its usual settings:
    /// `vit_small_patch16_224`, with `tiny`, `small`, `medium`, `base`, `large` or `huge`, the side
    /// of a patch and that of the image. Other sizes are written as `w128d6h4`: 128 numbers per
    /// token, 6 blocks and 4 heads.
    ///
    /// Also timm's names of DINOv2 (`vit_small_patch14_dinov2`, `vit_small_patch14_reg4_dinov2`,
    /// `vit_giant_patch14_dinov2`), DINOv3 (`vit_small_patch16_dinov3`,
    /// `vit_small_plus_patch16_dinov3`), DeiT III (`deit3_small_patch16_224`) and CLIP's image
    /// towers (`vit_base_patch16_clip_224`, `vit_base_patch16_clip_quickgelu_224`). Those of DINOv2
    /// and DINOv3 may end in another side of the image than 518 and 256. The feature is the class
    /// token.
    ///
    /// # Errors
    /// When the name has another form.
    pub fn named(name: &str) -> Result<Self> {
        Named::parse(name).map(Self::of_name).ok_or_else(|| {
            let form = names::FORM;
            Error::UnknownName(format!("`{name}` names no vision transformer; {form}"))
        })
    }

    fn of_name(named: Named) -> Self {
        let plain = Self::plain(named.size, named.patch, named.image);
        match named.kind {
            Kind::Plain => plain,
            Kind::Dinov2 { registers } => VitConfig {
                registers,
                class_position: registers == 0,
                position_scaling: PositionScaling::Antialias,
                mlp: if named.is_giant() { Mlp::SwiGlu } else { Mlp::Gelu },
                layer_scale: 1e-5,
                init: Init::Dinov2,
                ..plain
            },
            Kind::Dinov3 => VitConfig {
                positions: Positions::Rotary,
                registers: 4,
                class_position: false,
                mlp: if named.plus { Mlp::SwiGluWide } else { Mlp::Gelu },
                qkv_bias: QkvBias::None,
                norm_eps: 1e-5,
                layer_scale: 1e-5,
                init: Init::Dinov2,
                ..plain
            },
            Kind::Deit3 => VitConfig {
                class_position: false,
                position_scaling: PositionScaling::Antialias,
                layer_scale: 1e-6,
                ..plain
            },
            Kind::Clip { quick_gelu } => VitConfig {
                position_scaling: PositionScaling::Antialias,
                mlp: if quick_gelu { Mlp::QuickGelu } else { Mlp::Gelu },
                norm_eps: 1e-5,
                pre_norm: true,
                ..plain
            },
        }
    }

    /// The name that describes it best. A plain one leaves out what it cannot say.
    fn described(&self) -> Named {
        let &VitConfig { width, depth, heads, patch, image, registers, .. } = self;
        let size = [width, depth, heads];
        let with = |kind: Kind, plus: bool| Named { size, plus, patch, image, kind };
        let candidates = [
            with(Kind::Plain, false),
            with(Kind::Dinov2 { registers }, false),
            with(Kind::Dinov3, false),
            with(Kind::Dinov3, true),
            with(Kind::Deit3, false),
            with(Kind::Clip { quick_gelu: false }, false),
            with(Kind::Clip { quick_gelu: true }, false),
        ];
        // A run of DINOv2's method on other images is as much like any ViT with LayerScale.
        let common = |named: &Named| {
            named.kind == Kind::Dinov2 { registers: 0 } && image != names::DINOV2_IMAGE
        };
        let same =
            |named: &&Named| self.network() == Self::of_name(**named).network() && !common(named);
        *candidates.iter().find(same).unwrap_or(&candidates[0])
    }

    /// The settings that decide which numbers a network has and what it computes with them, as far
    /// as names tell these apart.
    fn network(&self) -> impl PartialEq + use<> {
        let &VitConfig { registers, mlp, norm_eps, pre_norm, .. } = self;
        let rotary = self.positions == Positions::Rotary;
        let class_position = self.class_position && !rotary;
        (rotary, class_position, registers, mlp, norm_eps, pre_norm, self.layer_scale != 0.0)
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
            qkv_bias: QkvBias::All,
            norm_eps: usual_eps(),
            pre_norm: false,
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
        let &VitConfig { width, heads, mlp, qkv_bias, norm_eps, init, layer_scale, .. } = self;
        let last = (self.depth - 1).max(1) as f64;
        let share = if self.drop_path_uniform { 1.0 } else { i as f64 / last };
        BlockConfig {
            width,
            heads,
            mlp,
            qkv_bias,
            norm_eps,
            init,
            layer_scale,
            eva_names: self.positions == Positions::Rotary,
            drop_path: self.drop_path * share,
        }
    }
}

fn yes() -> bool {
    true
}

/// timm's `eps` of a vision transformer's norms.
fn usual_eps() -> f64 {
    1e-6
}

impl Family for VitConfig {
    fn parse(name: &str) -> Option<Result<Self>> {
        names::is_of_family(name).then(|| VitConfig::named(name))
    }

    fn known_names() -> String {
        names::known()
    }

    fn name(&self) -> String {
        self.described().name()
    }

    fn size_keys(&self) -> &'static [&'static str] {
        let &VitConfig { width, depth, heads, patch, image, .. } = self;
        let plain = Self::plain([width, depth, heads], patch, image);
        if self.network() == plain.network() { SIZE_KEYS } else { KIND_KEYS }
    }

    fn validate(&self) -> Result<()> {
        let &VitConfig { width, depth, heads, patch, image, registers, .. } = self;
        let &VitConfig { drop_path, layer_scale, norm_eps, .. } = self;
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
        } else if self.positions == Positions::Rotary && width / heads % 4 != 0 {
            format!(
                "a head of width {} has no rotary positions; the width must be a multiple of 4 \
                 times the heads",
                width / heads
            )
        } else if !(norm_eps > 0.0 && norm_eps < 1.0) {
            format!("norm_eps is {norm_eps}; it must be above 0 and below 1")
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
    fn finetuned(&self, drop_path: f64, class_token: bool) -> Option<Finetuned> {
        let pool = if class_token { Pool::ClassToken } else { Pool::MeanThenNorm };
        let config = VitConfig {
            pool,
            positions: match self.positions {
                Positions::Learned | Positions::SineCosine => Positions::Learned,
                Positions::Rotary => Positions::Rotary,
            },
            frozen_patches: false,
            drop_path,
            ..self.clone()
        };
        let norm_of = |pool| match pool {
            Pool::MeanThenNorm => "fc_norm.",
            Pool::ClassToken | Pool::Mean => "norm.",
        };
        let (dropped, added) = match (norm_of(self.pool), norm_of(pool)) {
            ("norm.", "norm.") => (None, None), // the class token keeps its norm
            (dropped, added) => (Some(dropped), Some(added)), // a new one, also after fine-tuning
        };
        Some(Finetuned { config: Box::new(config), dropped, added })
    }
}
