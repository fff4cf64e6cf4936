//! The vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929) as timm builds it, without
//! the classifier.

mod config;
mod names;
pub mod positions;
#[cfg(test)]
mod released_tests;
mod resolution;
#[cfg(test)]
mod tests;

pub use config::{Pool, PositionScaling, Positions, VitConfig};

use portolan_tensor::{Kind, Tensor, Vars, recomputed};

use self::positions::{interpolate, sine_cosine};
use crate::layers::LayerNorm;
use crate::transformer::{Block, Rotation};
use crate::{Encoder, Error, Family, Result};

/// A vision transformer: patch projection, class token, registers, position embeddings, perhaps a
/// first norm, blocks, a last norm. Its tokens are in the order class token, registers, patches.
#[derive(Debug)]
pub struct Vit {
    config: VitConfig,
    vars: Vars,
    cls_token: Tensor,
    /// Registers (Darcet et al. 2023, arXiv:2309.16588), `[1, registers, width]`. They have no
    /// positions.
    reg_token: Option<Tensor>,
    /// What replaces masked patches, `[1, width]`.
    mask_token: Option<Tensor>,
    /// Positions that are added, `[1, (class token) + patches, width]`; none with rotary ones.
    pos_embed: Option<Tensor>,
    patch_weight: Tensor,
    /// None where a norm follows.
    patch_bias: Option<Tensor>,
    norm_pre: Option<LayerNorm>,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Vit {
    /// Builds the network that `config` describes.
    ///
    /// # Errors
    /// When a setting is out of range, for instance if the patch does not divide the image.
    pub fn new(config: &VitConfig, vars: &Vars) -> Result<Self> {
        config.validate()?;
        let &VitConfig { width, patch, init, .. } = config;
        let float = (Kind::Float, vars.device());
        let grid = config.image / patch;
        let token = |name: &str, count: i64| {
            vars.parameter(name, Tensor::randn([1, count, width], float) * init.token_std())
        };
        let cls_token = token("cls_token", 1);
        let class_places = i64::from(config.class_position);
        let pos_embed = match config.positions {
            Positions::Learned => {
                let values = Tensor::randn([1, class_places + grid * grid, width], float) * 0.02;
                Some(vars.parameter("pos_embed", values))
            }
            Positions::SineCosine => {
                let places = sine_cosine(grid, grid, width, vars.device());
                let values =
                    Tensor::cat(&[Tensor::zeros([1, class_places, width], float), places], 1);
                Some(vars.buffer("pos_embed", values))
            }
            Positions::Rotary => None,
        };
        let proj = &(vars / "patch_embed") / "proj";
        let (of_weight, of_bias) = init.patch_bounds(3 * patch * patch, width);
        let uniform =
            |shape: &[i64], bound: f64| Tensor::empty(shape, float).uniform_(-bound, bound);
        let weight = uniform(&[width, 3, patch, patch], of_weight);
        let bias = (!config.pre_norm).then(|| uniform(&[width], of_bias));
        // As a buffer, a frozen projection is stored, but no optimizer sees it.
        let stored = |name: &str, values: Tensor| {
            let keep = if config.frozen_patches { Vars::buffer } else { Vars::parameter };
            keep(&proj, name, values)
        };
        let (patch_weight, patch_bias) =
            (stored("weight", weight), bias.map(|values| stored("bias", values)));
        let reg_token = (config.registers > 0).then(|| token("reg_token", config.registers));
        // vision_transformer.py of DINOv2 starts it from zero.
        let mask = || vars.parameter("mask_token", Tensor::zeros([1, width], float));
        let mask_token = config.mask_token.then(mask);
        let norm = |name: &str| LayerNorm::with_eps(&(vars / name), width, config.norm_eps);
        let block = |i: i64| Block::new(&(&(vars / "blocks") / i), &config.block(i));
        Ok(Vit {
            cls_token,
            reg_token,
            mask_token,
            pos_embed,
            patch_weight,
            patch_bias,
            norm_pre: config.pre_norm.then(|| norm("norm_pre")),
            blocks: (0..config.depth).map(block).collect(),
            norm: norm(norm_name(config.pool)),
            vars: vars.clone(),
            config: config.clone(),
        })
    }

    /// Its settings.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// The number of tokens before the patches: the class token and the registers.
    pub fn prefix_tokens(&self) -> i64 {
        1 + self.config.registers
    }

    /// The tokens after the last norm, class token, registers and patches (row by row):
    /// `[batch, 3, height, width]` to `[batch, prefix + patches, width]`. Where `mask`, bool
    /// `[batch, patches]`, is true, the mask token replaces the patch before its position is added.
    /// With [`Pool::MeanThenNorm`] the tokens are not normalized, since the norm follows the
    /// pooling.
    ///
    /// # Errors
    /// When the patch does not divide the images, or there is a mask, but no mask token or one of
    /// another shape.
    pub fn tokens(&self, images: &Tensor, mask: Option<&Tensor>, train: bool) -> Result<Tensor> {
        let turn = self.rotation(self.grid(images)?);
        let tokens = self.through_blocks(&self.embed(images, mask)?, turn.as_ref(), train);
        Ok(self.normalized(&tokens))
    }

    /// The tokens before the last norm, in evaluation mode, otherwise as [`Vit::tokens`]. Their
    /// lengths show outliers (Darcet et al. 2023, section 2.1), which the norm hides.
    ///
    /// # Errors
    /// When the patch does not divide the images.
    pub fn unnormalized_tokens(&self, images: &Tensor) -> Result<Tensor> {
        let turn = self.rotation(self.grid(images)?);
        Ok(self.through_blocks(&self.embed(images, None)?, turn.as_ref(), false))
    }

    /// Projects patches to tokens and adds the position embeddings: `[batch, 3, height, width]` to
    /// `[batch, patches, width]`, row by row. For images of another size than the config's, the
    /// embeddings are interpolated.
    ///
    /// # Errors
    /// When the patch does not divide the images.
    pub fn patches(&self, images: &Tensor) -> Result<Tensor> {
        self.embed(images, None)
    }

    fn embed(&self, images: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (rows, columns) = self.grid(images)?;
        let patch = self.config.patch;
        let mut tokens = images
            .conv2d(&self.patch_weight, self.patch_bias.as_ref(), patch, 0, 1, 1)
            .flatten(2, 3)
            .transpose(1, 2);
        if let Some(mask) = mask {
            tokens = self.masked(&tokens, mask)?;
        }
        let Some(pos_embed) = &self.pos_embed else { return Ok(tokens) };
        let own = self.config.image / patch;
        let places = pos_embed.narrow(1, i64::from(self.config.class_position), own * own);
        let scaling = self.config.position_scaling;
        Ok(tokens + interpolate(&places, (own, own), (rows, columns), scaling))
    }

    /// The turn of queries and keys for a grid of patches; none with positions that are added.
    fn rotation(&self, (rows, columns): (i64, i64)) -> Option<Rotation> {
        let numbers = self.config.width / self.config.heads;
        let device = self.cls_token.device();
        let rotation = || Rotation::of_grid([rows, columns], numbers, self.prefix_tokens(), device);
        (self.config.positions == Positions::Rotary).then(rotation)
    }

    /// The rows and columns of patches of images `[batch, 3, height, width]`.
    fn grid(&self, images: &Tensor) -> Result<(i64, i64)> {
        let patch = self.config.patch;
        let shape = images.size();
        if shape.len() != 4 || shape[2] % patch != 0 || shape[3] % patch != 0 {
            return Err(Error::ImageSize(format!(
                "patches of {patch} pixels do not tile images of the shape {shape:?}"
            )));
        }
        Ok((shape[2] / patch, shape[3] / patch))
    }

    fn masked(&self, tokens: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let Some(token) = &self.mask_token else {
            return Err(Error::Setting(
                "masked patches need a mask token; set mask_token in the encoder's settings"
                    .to_owned(),
            ));
        };
        if mask.size() != tokens.size()[..2] {
            return Err(Error::Setting(format!(
                "the mask has the shape {:?}, and the patches are {:?}",
                mask.size(),
                &tokens.size()[..2]
            )));
        }
        Ok(token.to_kind(tokens.kind()).where_self(&mask.unsqueeze(-1), tokens))
    }

    /// Puts class token and registers before any number of patch tokens, and applies the blocks and
    /// the last norm: `[batch, patches, width]` to `[batch, prefix + patches, width]`. With
    /// [`Pool::MeanThenNorm`] the tokens are not normalized, since the norm follows the pooling.
    ///
    /// # Errors
    /// When positions are rotary: these depend on where each patch is.
    pub fn encode(&self, patches: &Tensor, train: bool) -> Result<Tensor> {
        if self.config.positions == Positions::Rotary {
            return Err(Error::Setting(
                "some patches of an image cannot be encoded with rotary positions; choose an \
                 encoder with learned positions or sine_cosine"
                    .to_owned(),
            ));
        }
        Ok(self.normalized(&self.through_blocks(patches, None, train)))
    }

    fn through_blocks(&self, patches: &Tensor, turn: Option<&Rotation>, train: bool) -> Tensor {
        let prefixed = self.with_prefix(patches);
        self.blocks.iter().fold(prefixed, |x, block| self.block_forward(block, &x, turn, train))
    }

    fn block_forward(
        &self,
        block: &Block,
        x: &Tensor,
        turn: Option<&Rotation>,
        train: bool,
    ) -> Tensor {
        if !(self.config.recompute && x.requires_grad()) {
            return block.forward_turned(x, turn, train);
        }
        let (block, turn) = (block.shared(), turn.map(Rotation::shared));
        recomputed(x, move |x| block.forward_turned(x, turn.as_ref(), train))
            .expect("a block that runs")
    }

    fn with_prefix(&self, patches: &Tensor) -> Tensor {
        let class = match &self.pos_embed {
            Some(pos_embed) if self.config.class_position => {
                &self.cls_token + pos_embed.narrow(1, 0, 1)
            }
            _ => self.cls_token.shallow_clone(),
        };
        let batch = patches.size()[0];
        let prefix = std::iter::once(&class).chain(&self.reg_token);
        let mut parts: Vec<Tensor> =
            prefix.map(|token| token.expand([batch, -1, -1], false)).collect();
        parts.push(patches.shallow_clone());
        let tokens = Tensor::cat(&parts, 1);
        match &self.norm_pre {
            Some(norm) => norm.forward(&tokens),
            None => tokens,
        }
    }

    fn normalized(&self, tokens: &Tensor) -> Tensor {
        match self.config.pool {
            Pool::MeanThenNorm => tokens.shallow_clone(),
            Pool::ClassToken | Pool::Mean => self.norm.forward(tokens),
        }
    }

    /// The patches among tokens: `[batch, prefix + patches, width]` to `[batch, patches, width]`.
    fn without_prefix(&self, tokens: &Tensor) -> Tensor {
        let prefix = self.prefix_tokens();
        tokens.narrow(1, prefix, tokens.size()[1] - prefix)
    }

    /// Pools encoded tokens to features as the config says: `[batch, prefix + patches, width]` to
    /// `[batch, width]`.
    pub fn pool(&self, tokens: &Tensor) -> Tensor {
        let mean = || self.without_prefix(tokens).mean_dim([1i64].as_slice(), false, None::<Kind>);
        match self.config.pool {
            Pool::ClassToken => tokens.select(1, 0),
            Pool::Mean => mean(),
            Pool::MeanThenNorm => self.norm.forward(&mean()),
        }
    }

    /// The tokens after each of the last `n` blocks, earliest first, in evaluation mode: each as
    /// [`Vit::tokens`], through the same last norm (`get_intermediate_layers` in DINOv2).
    ///
    /// # Errors
    /// When the patch does not divide the images, or there are fewer than `n` blocks.
    pub fn last_blocks(&self, images: &Tensor, n: usize) -> Result<Vec<Tensor>> {
        let Some(first) = self.blocks.len().checked_sub(n) else {
            let depth = self.blocks.len();
            return Err(Error::Setting(format!(
                "a transformer of depth {depth} has no {n} blocks"
            )));
        };
        let turn = self.rotation(self.grid(images)?);
        let mut x = self.with_prefix(&self.patches(images)?);
        let mut last = Vec::with_capacity(n);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward_turned(&x, turn.as_ref(), false);
            if i >= first {
                last.push(self.normalized(&x));
            }
        }
        Ok(last)
    }

    /// The attention weights of the last block, `[batch, heads, tokens, tokens]`. Row 0 is the
    /// class token's.
    ///
    /// # Errors
    /// When the patch does not divide the images.
    pub fn last_attention(&self, images: &Tensor) -> Result<Tensor> {
        let turn = self.rotation(self.grid(images)?);
        let mut x = self.with_prefix(&self.patches(images)?);
        let (last, before) = self.blocks.split_last().expect("a checked config has blocks");
        for block in before {
            x = block.forward_turned(&x, turn.as_ref(), false);
        }
        Ok(last.attention(&x, turn.as_ref()))
    }

    /// The keys of the last block's attention for the patches, all heads one after another, before
    /// rotary positions turn them: `[batch, patches, width]`.
    ///
    /// # Errors
    /// When the patch does not divide the images.
    pub fn last_keys(&self, images: &Tensor) -> Result<Tensor> {
        let turn = self.rotation(self.grid(images)?);
        let mut x = self.with_prefix(&self.patches(images)?);
        let (last, before) = self.blocks.split_last().expect("a checked config has blocks");
        for block in before {
            x = block.forward_turned(&x, turn.as_ref(), false);
        }
        Ok(self.without_prefix(&last.keys(&x)))
    }

    fn checked_tokens(&self, images: &Tensor, train: bool) -> Tensor {
        // The sizes of the views are checked where a method is built.
        self.tokens(images, None, train).expect("images that the patch divides")
    }
}

/// timm's name of the last norm.
fn norm_name(pool: Pool) -> &'static str {
    match pool {
        Pool::ClassToken | Pool::Mean => "norm",
        Pool::MeanThenNorm => "fc_norm",
    }
}

impl Encoder for Vit {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        self.pool(&self.checked_tokens(images, train))
    }

    fn feature_map(&self, images: &Tensor, train: bool) -> Tensor {
        self.features_and_map(images, train).1
    }

    fn features_and_map(&self, images: &Tensor, train: bool) -> (Tensor, Tensor) {
        let tokens = self.checked_tokens(images, train);
        let patch = self.config.patch;
        let (rows, columns) = (images.size()[2] / patch, images.size()[3] / patch);
        let patches = self.without_prefix(&tokens).transpose(1, 2);
        (self.pool(&tokens), patches.reshape([-1, self.config.width, rows, columns]))
    }

    fn as_vit(&self) -> Option<&Vit> {
        Some(self)
    }

    fn width(&self) -> i64 {
        self.config.width
    }

    fn layer_of(&self, parameter: &str) -> Option<usize> {
        let input =
            ["cls_token", "reg_token", "mask_token", "pos_embed", "patch_embed", "norm_pre"];
        if input.iter().any(|prefix| parameter.starts_with(prefix)) {
            return Some(0);
        }
        let block = parameter.strip_prefix("blocks.")?.split('.').next()?;
        Some(block.parse::<usize>().ok()? + 1)
    }

    fn no_weight_decay(&self, parameter: &str) -> bool {
        matches!(parameter, "cls_token" | "reg_token" | "mask_token" | "pos_embed")
    }

    fn vars(&self) -> &Vars {
        &self.vars
    }
}
