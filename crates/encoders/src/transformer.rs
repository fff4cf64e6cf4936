//! The transformer block (Vaswani et al. 2017, arXiv:1706.03762) in the pre-norm form of ViT
//! (Dosovitskiy et al. 2020, arXiv:2010.11929, equations 2 and 3), with timm's names.

mod attention;
mod init;
mod mlp;

pub use init::Init;
pub use mlp::Mlp;

use portolan_tensor::{Kind, Tensor, Vars};

use self::attention::Attention;
use self::mlp::TokenMlp;
use crate::drop_path::drop_path;
use crate::layers::LayerNorm;

/// The settings of a block.
#[derive(Clone, Copy, Debug)]
pub struct BlockConfig {
    /// The dimension of a token.
    pub width: i64,
    /// The number of attention heads.
    pub heads: i64,
    /// The form of the MLP.
    pub mlp: Mlp,
    /// The initial values.
    pub init: Init,
    /// The initial value of LayerScale; 0 for none.
    pub layer_scale: f64,
    /// The probability of skipping a branch for an image in training (stochastic depth).
    pub drop_path: f64,
}

impl BlockConfig {
    /// The usual block for tokens of `width` numbers: GELU, neither LayerScale nor stochastic
    /// depth.
    pub fn plain(width: i64, heads: i64, init: Init) -> Self {
        BlockConfig { width, heads, mlp: Mlp::Gelu, init, layer_scale: 0.0, drop_path: 0.0 }
    }
}

/// x + scale · attention(norm(x)), then x + scale · mlp(norm(x)). The scales are one number per
/// channel (LayerScale, Touvron et al. 2021, arXiv:2103.17239, section 2), or absent.
#[derive(Debug)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    scale1: Option<Tensor>,
    norm2: LayerNorm,
    mlp: TokenMlp,
    scale2: Option<Tensor>,
    drop_path: f64,
}

impl Block {
    /// A block with initial values drawn from libtorch's generator.
    pub fn new(vars: &Vars, config: &BlockConfig) -> Self {
        let &BlockConfig { width, heads, mlp, init, layer_scale, drop_path } = config;
        let scale = |name: &str| {
            let values = Tensor::full([width], layer_scale, (Kind::Float, vars.device()));
            (layer_scale != 0.0).then(|| (vars / name).parameter("gamma", values))
        };
        Block {
            norm1: LayerNorm::new(&(vars / "norm1"), width),
            attn: Attention::new(&(vars / "attn"), width, heads, init),
            scale1: scale("ls1"),
            norm2: LayerNorm::new(&(vars / "norm2"), width),
            mlp: TokenMlp::new(&(vars / "mlp"), width, mlp, init),
            scale2: scale("ls2"),
            drop_path,
        }
    }

    /// A second handle to the same weights, for another thread.
    pub(crate) fn shared(&self) -> Self {
        let scale = |scale: &Option<Tensor>| scale.as_ref().map(Tensor::shallow_clone);
        Block {
            norm1: self.norm1.shared(),
            attn: self.attn.shared(),
            scale1: scale(&self.scale1),
            norm2: self.norm2.shared(),
            mlp: self.mlp.shared(),
            scale2: scale(&self.scale2),
            drop_path: self.drop_path,
        }
    }

    /// `[batch, tokens, width]` to the same.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let branch = scaled(self.attn.forward(&self.norm1.forward(x)), self.scale1.as_ref());
        let x = x + drop_path(branch, self.drop_path, train);
        let branch = scaled(self.mlp.forward(&self.norm2.forward(&x)), self.scale2.as_ref());
        x + drop_path(branch, self.drop_path, train)
    }

    /// The attention weights, given the block's input (see [`Vit::last_attention`](crate::Vit)).
    pub(crate) fn attention(&self, x: &Tensor) -> Tensor {
        self.attn.weights(&self.norm1.forward(x))
    }

    /// The keys of the attention, given the block's input (see [`Vit::last_keys`](crate::Vit)).
    pub(crate) fn keys(&self, x: &Tensor) -> Tensor {
        self.attn.keys(&self.norm1.forward(x))
    }
}

fn scaled(branch: Tensor, scale: Option<&Tensor>) -> Tensor {
    match scale {
        Some(scale) => branch * scale,
        None => branch,
    }
}

#[cfg(test)]
mod tests {
    use portolan_tensor::Device;

    use super::*;

    #[test]
    fn layer_scale_multiplies_what_a_branch_adds() {
        let of = |layer_scale| {
            portolan_tensor::seed(0);
            let plain = BlockConfig::plain(8, 2, Init::Normal);
            Block::new(&Vars::new(Device::Cpu), &BlockConfig { layer_scale, ..plain })
        };
        let x = Tensor::linspace(-1, 1, 48, (Kind::Float, Device::Cpu)).view([2, 3, 8]);
        let (without, one, tiny) = (of(0.0), of(1.0), of(1e-5));
        assert!(one.forward(&x, true).equal(&without.forward(&x, true)));
        let branch = without.attn.forward(&without.norm1.forward(&x));
        // The second branch of a block adds about as little as the first.
        let added = (tiny.forward(&x, true) - &x).abs().max().double_value(&[]);
        let most = branch.abs().max().double_value(&[]);
        assert!(added > 0.0 && added < 1e-4 * most.max(1.0), "{added}, {most}");
    }
}
