//! The vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929) as timm builds it, without
//! the classifier.

mod config;
pub mod positions;

pub use config::{Pool, PositionScaling, Positions, VitConfig};

use portolan_tensor::{Kind, Tensor, Vars, recomputed};

use self::positions::{interpolate, sine_cosine};
use crate::layers::LayerNorm;
use crate::transformer::Block;
use crate::{Encoder, Error, Family, Result};

/// A vision transformer: patch projection, class token, position embeddings, blocks, a last norm.
#[derive(Debug)]
pub struct Vit {
    config: VitConfig,
    vars: Vars,
    cls_token: Tensor,
    pos_embed: Tensor,
    patch_weight: Tensor,
    patch_bias: Tensor,
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
        let cls_token = Tensor::randn([1, 1, width], float) * init.class_token_std();
        let cls_token = vars.parameter("cls_token", cls_token);
        let pos_embed = match config.positions {
            Positions::Learned => {
                let values = Tensor::randn([1, grid * grid + 1, width], float) * 0.02;
                vars.parameter("pos_embed", values)
            }
            Positions::SineCosine => {
                let places = sine_cosine(grid, grid, width, vars.device());
                let values = Tensor::cat(&[Tensor::zeros([1, 1, width], float), places], 1);
                vars.buffer("pos_embed", values)
            }
        };
        let proj = &(vars / "patch_embed") / "proj";
        let (of_weight, of_bias) = init.patch_bounds(3 * patch * patch, width);
        let uniform =
            |shape: &[i64], bound: f64| Tensor::empty(shape, float).uniform_(-bound, bound);
        let weight = uniform(&[width, 3, patch, patch], of_weight);
        let bias = uniform(&[width], of_bias);
        // As a buffer, a frozen projection is stored, but no optimizer sees it.
        let (patch_weight, patch_bias) = if config.frozen_patches {
            (proj.buffer("weight", weight), proj.buffer("bias", bias))
        } else {
            (proj.parameter("weight", weight), proj.parameter("bias", bias))
        };
        let last = (config.depth - 1).max(1) as f64;
        let block = |i: i64| {
            let drop_path = config.drop_path * i as f64 / last;
            Block::new(&(&(vars / "blocks") / i), width, config.heads, init, drop_path)
        };
        Ok(Vit {
            cls_token,
            pos_embed,
            patch_weight,
            patch_bias,
            blocks: (0..config.depth).map(block).collect(),
            norm: LayerNorm::new(&(vars / norm_name(config.pool)), width),
            vars: vars.clone(),
            config: config.clone(),
        })
    }

    /// Its settings.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Projects patches to tokens and adds the position embeddings: `[batch, 3, height, width]` to
    /// `[batch, patches, width]`, row by row. For images of another size than the config's, the
    /// embeddings are interpolated.
    ///
    /// # Errors
    /// When the patch does not divide the images.
    pub fn patches(&self, images: &Tensor) -> Result<Tensor> {
        let patch = self.config.patch;
        let shape = images.size();
        if shape.len() != 4 || shape[2] % patch != 0 || shape[3] % patch != 0 {
            return Err(Error::ImageSize(format!(
                "patches of {patch} pixels do not tile images of the shape {shape:?}"
            )));
        }
        let (own, grid) = (self.config.image / patch, (shape[2] / patch, shape[3] / patch));
        let places = self.pos_embed.narrow(1, 1, own * own);
        let places = interpolate(&places, (own, own), grid, self.config.position_scaling);
        let tokens =
            images.conv2d(&self.patch_weight, Some(&self.patch_bias), patch, 0, 1, 1).flatten(2, 3);
        Ok(tokens.transpose(1, 2) + places)
    }

    /// Applies the blocks and the last norm to a class token and any number of patch tokens:
    /// `[batch, patches, width]` to `[batch, 1 + patches, width]`, the class token first. With
    /// [`Pool::MeanThenNorm`] the tokens are not normalized, since the norm follows the pooling.
    pub fn encode(&self, patches: &Tensor, train: bool) -> Tensor {
        let mut x = self.with_class_token(patches);
        for block in &self.blocks {
            x = self.block_forward(block, &x, train);
        }
        match self.config.pool {
            Pool::MeanThenNorm => x,
            Pool::ClassToken | Pool::Mean => self.norm.forward(&x),
        }
    }

    fn block_forward(&self, block: &Block, x: &Tensor, train: bool) -> Tensor {
        if !(self.config.recompute && x.requires_grad()) {
            return block.forward(x, train);
        }
        let block = block.shared();
        recomputed(x, move |x| block.forward(x, train)).expect("a block that runs")
    }

    fn with_class_token(&self, patches: &Tensor) -> Tensor {
        let class = &self.cls_token + self.pos_embed.narrow(1, 0, 1);
        Tensor::cat(&[class.expand([patches.size()[0], -1, -1], false), patches.shallow_clone()], 1)
    }

    /// Pools encoded tokens to features as the config says: `[batch, 1 + patches, width]` to
    /// `[batch, width]`.
    pub fn pool(&self, tokens: &Tensor) -> Tensor {
        let mean = || {
            let patches = tokens.size()[1] - 1;
            tokens.narrow(1, 1, patches).mean_dim([1i64].as_slice(), false, None::<Kind>)
        };
        match self.config.pool {
            Pool::ClassToken => tokens.select(1, 0),
            Pool::Mean => mean(),
            Pool::MeanThenNorm => self.norm.forward(&mean()),
        }
    }

    /// The attention weights of the last block, `[batch, heads, 1 + patches, 1 + patches]`. Row 0
    /// is the class token's.
    ///
    /// # Errors
    /// When the patch does not divide the images.
    pub fn last_attention(&self, images: &Tensor) -> Result<Tensor> {
        let mut x = self.with_class_token(&self.patches(images)?);
        let (last, before) = self.blocks.split_last().expect("a checked config has blocks");
        for block in before {
            x = block.forward(&x, false);
        }
        Ok(last.attention(&x))
    }

    fn tokens(&self, images: &Tensor, train: bool) -> Tensor {
        // The sizes of the views are checked where a method is built.
        let patches = self.patches(images).expect("images that the patch divides");
        self.encode(&patches, train)
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
        self.pool(&self.tokens(images, train))
    }

    fn feature_map(&self, images: &Tensor, train: bool) -> Tensor {
        let tokens = self.tokens(images, train);
        let patches = tokens.narrow(1, 1, tokens.size()[1] - 1);
        let (rows, columns) =
            (images.size()[2] / self.config.patch, images.size()[3] / self.config.patch);
        patches.transpose(1, 2).reshape([-1, self.config.width, rows, columns])
    }

    fn width(&self) -> i64 {
        self.config.width
    }

    fn layer_of(&self, parameter: &str) -> Option<usize> {
        let input = ["cls_token", "pos_embed", "patch_embed"];
        if input.iter().any(|prefix| parameter.starts_with(prefix)) {
            return Some(0);
        }
        let block = parameter.strip_prefix("blocks.")?.split('.').next()?;
        Some(block.parse::<usize>().ok()? + 1)
    }

    fn no_weight_decay(&self, parameter: &str) -> bool {
        matches!(parameter, "cls_token" | "pos_embed")
    }

    fn vars(&self) -> &Vars {
        &self.vars
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_tensor::Device;

    use super::*;
    use crate::Init;

    fn small(change: impl Fn(&mut VitConfig)) -> (Vit, Vars) {
        let mut config = VitConfig::named("vit_w16d2h2_patch4_16").unwrap();
        change(&mut config);
        let vars = Vars::new(Device::Cpu);
        (Vit::new(&config, &vars).unwrap(), vars)
    }

    fn images(size: i64) -> Tensor {
        Tensor::randn([3, 3, size, size], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn features_and_maps_have_the_shapes_they_say_at_other_sizes_too() {
        for pool in [Pool::ClassToken, Pool::Mean, Pool::MeanThenNorm] {
            let (vit, _) = small(|config| config.pool = pool);
            for size in [8, 16, 24] {
                assert_eq!(vit.forward(&images(size), true).size(), [3, 16]);
                assert_eq!(
                    vit.feature_map(&images(size), false).size(),
                    [3, 16, size / 4, size / 4]
                );
            }
            assert!(vit.patches(&images(10)).is_err());
        }
    }

    #[test]
    fn patches_are_projected_row_by_row_and_get_their_place() {
        let (vit, vars) = small(|config| config.positions = Positions::SineCosine);
        let x = images(16);
        let tokens = vit.patches(&x).unwrap();
        let state: std::collections::BTreeMap<_, _> = vars.state().into_iter().collect();
        let weight = state["patch_embed.proj.weight"].view([16, -1]);
        let patch = x.get(1).narrow(1, 4, 4).narrow(2, 8, 4).reshape([-1]); // row 1, column 2
        let expected = weight.matmul(&patch)
            + &state["patch_embed.proj.bias"]
            + state["pos_embed"].get(0).get(1 + 4 + 2);
        assert!(tokens.get(1).get(6).allclose(&expected, 1e-4, 1e-5, false));
    }

    #[test]
    fn attention_rows_sum_to_one() {
        let (vit, _) = small(|_| ());
        let attention = vit.last_attention(&images(16)).unwrap();
        assert_eq!(attention.size(), [3, 2, 17, 17]);
        let sums = attention.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
        assert!(sums.allclose(&sums.ones_like(), 1e-5, 1e-5, false));
    }

    #[test]
    fn initial_values_are_those_of_each_authors_code() {
        // w = 64, patches of 4: 48 numbers. Bounds by hand; the deviation of a uniform draw is its
        // bound / √3.
        let default = 1.0 / 48f64.sqrt(); // PyTorch's convolution
        let (proj, fused, apart) =
            ((6f64 / (48. + 64.)).sqrt(), (6f64 / (4. * 64.)).sqrt(), (6f64 / (2. * 64.)).sqrt());
        let uniform = |bound: f64| bound / 3f64.sqrt();
        for (init, expected) in [
            (Init::Normal, [0.02, 0.02, uniform(default), uniform(default)]), // DINO
            (Init::Xavier, [1e-6, uniform(apart), uniform(proj), 0.0]),       // MoCo v3
            (Init::XavierFused, [0.02, uniform(fused), uniform(proj), uniform(default)]), // MAE
        ] {
            portolan_tensor::seed(0);
            let config = VitConfig { init, ..VitConfig::plain([64, 1, 2], 4, 16) };
            let vars = Vars::new(Device::Cpu);
            Vit::new(&config, &vars).unwrap();
            let state: std::collections::BTreeMap<_, _> = vars.state().into_iter().collect();
            let names = [
                "cls_token",
                "blocks.0.attn.qkv.weight",
                "patch_embed.proj.weight",
                "patch_embed.proj.bias",
            ];
            for (name, expected) in names.into_iter().zip(expected) {
                let values = &state[name];
                let std = values.square().mean(Kind::Double).double_value(&[]).sqrt();
                // Five standard errors of a deviation over n values.
                let off = 5.0 * expected / (2.0 * values.numel() as f64).sqrt();
                assert!((std - expected).abs() <= off, "{init:?}, {name}: {std}, not {expected}");
            }
            let most = state["blocks.0.attn.qkv.weight"].abs().max().double_value(&[]);
            match init {
                Init::Normal => assert!(most > 0.05, "not cut off: {most}"),
                Init::Xavier => assert!(most <= apart && most > 0.99 * apart, "{most}"),
                Init::XavierFused => assert!(most <= fused && most > 0.99 * fused, "{most}"),
            }
        }
    }

    #[test]
    fn a_new_norm_follows_the_mean_and_the_last_one_is_gone() {
        let (vit, vars) = small(|config| config.pool = Pool::MeanThenNorm);
        let names: Vec<String> = vars.state().into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().any(|name| name == "fc_norm.weight"));
        assert!(!names.iter().any(|name| name.starts_with("norm.")));
        let features = vit.forward(&images(16), false);
        let mean = features.mean_dim([1i64].as_slice(), false, Kind::Float);
        assert!(mean.abs().max().double_value(&[]) < 1e-5, "a layer norm has mean zero");
    }

    #[test]
    fn training_with_labels_moves_what_pretraining_left_fixed() {
        let config = VitConfig {
            positions: Positions::SineCosine,
            frozen_patches: true,
            ..VitConfig::plain([16, 2, 2], 4, 16)
        };
        let trained = |config: &dyn Family| {
            let vars = Vars::new(Device::Cpu);
            config.build(&vars).unwrap();
            assert_eq!(vars.parameters().len() + vars.buffers().len(), vars.state().len());
            vars.buffers().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let fixed = ["pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"];
        assert_eq!(trained(&config), fixed);
        let finetuned = config.finetuned(0.1).unwrap().config;
        assert_eq!(trained(&*finetuned), Vec::<String>::new());
    }

    #[test]
    fn a_frozen_projection_is_kept_from_the_optimizer_but_stored() {
        let (_, vars) = small(|config| config.frozen_patches = true);
        let named = |list: Vec<(String, Tensor)>| {
            list.iter().any(|(name, _)| name.starts_with("patch_embed"))
        };
        assert!(!named(vars.parameters()) && named(vars.state()));
    }

    #[test]
    fn impossible_transformers_are_refused_by_name() {
        let refused = |change: fn(&mut VitConfig)| {
            let mut config = VitConfig::named("vit_tiny_patch4_32").unwrap();
            change(&mut config);
            Vit::new(&config, &Vars::new(Device::Cpu)).err().unwrap().to_string()
        };
        let message = refused(|config| config.patch = 5);
        assert!(message.contains('5') && message.contains("32"), "{message}");
        assert!(refused(|config| config.heads = 5).contains("heads"));
        assert!(refused(|config| config.drop_path = 1.0).contains("drop_path"));
        assert!(refused(|config| config.depth = 0).contains("depth"));
    }
}
