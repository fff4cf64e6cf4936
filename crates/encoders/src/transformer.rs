//! The transformer block (Vaswani et al. 2017, arXiv:1706.03762) in the pre-norm form of ViT
//! (Dosovitskiy et al. 2020, arXiv:2010.11929, equations 2 and 3), with timm's names.

use portolan_tensor::{Kind, Tensor, Vars};
use serde::{Deserialize, Serialize};

use crate::layers::{LayerNorm, Linear};

/// The initial values of a transformer's matrices and class token. Biases of fully connected layers
/// are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Normal with a standard deviation of 0.02, also the class token. The patch projection is
    /// PyTorch's default for a convolution. As in DINO's `vision_transformer.py` and timm.
    Normal,
    /// Uniform in ±√(6 / (inputs + outputs)), with queries, keys and values as separate matrices.
    /// The patch projection's bias is zero, the class token's standard deviation 1e-6. As in MoCo
    /// v3's `vits.py`.
    Xavier,
    /// Uniform in ±√(6 / (inputs + outputs)), with queries, keys and values as one matrix
    /// `[3 · width, width]`. The patch projection's bias is PyTorch's default for a convolution,
    /// the class token's standard deviation 0.02. As in `initialize_weights` of MAE's
    /// `models_mae.py`.
    XavierFused,
}

impl Init {
    /// A fully connected layer with bias.
    pub fn linear(self, vars: &Vars, inputs: i64, outputs: i64) -> Linear {
        self.matrix(vars, inputs, outputs, outputs)
    }

    /// Queries, keys and values of `width` numbers each, in one layer.
    fn qkv(self, vars: &Vars, width: i64) -> Linear {
        let counted = if self == Init::XavierFused { 3 * width } else { width };
        self.matrix(vars, width, 3 * width, counted)
    }

    /// A layer with the bounds of a matrix with `counted` outputs.
    fn matrix(self, vars: &Vars, inputs: i64, outputs: i64, counted: i64) -> Linear {
        let float = (Kind::Float, vars.device());
        let weight = match self {
            Init::Normal => Tensor::randn([outputs, inputs], float) * 0.02,
            Init::Xavier | Init::XavierFused => {
                let bound = xavier_bound(inputs, counted);
                Tensor::empty([outputs, inputs], float).uniform_(-bound, bound)
            }
        };
        Linear::of(vars, weight, Some(Tensor::zeros([outputs], float)))
    }

    /// The standard deviation of the class token.
    pub(crate) fn class_token_std(self) -> f64 {
        match self {
            Init::Normal | Init::XavierFused => 0.02,
            Init::Xavier => 1e-6,
        }
    }

    /// The bounds of the patch projection's weight (`inputs` numbers per patch) and of its bias.
    /// Both are uniform.
    pub(crate) fn patch_bounds(self, inputs: i64, width: i64) -> (f64, f64) {
        let default = 1.0 / (inputs as f64).sqrt(); // PyTorch's default for a convolution
        match self {
            Init::Normal => (default, default),
            Init::Xavier => (xavier_bound(inputs, width), 0.0),
            Init::XavierFused => (xavier_bound(inputs, width), default),
        }
    }
}

/// √(6 / (inputs + outputs)) (Glorot and Bengio 2010, equation 16).
fn xavier_bound(inputs: i64, outputs: i64) -> f64 {
    (6.0 / (inputs + outputs) as f64).sqrt()
}

/// Multi-head self-attention.
#[derive(Debug)]
struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: i64,
}

impl Attention {
    fn new(vars: &Vars, width: i64, heads: i64, init: Init) -> Self {
        Attention {
            qkv: init.qkv(&(vars / "qkv"), width),
            proj: init.linear(&(vars / "proj"), width, width),
            heads,
        }
    }

    /// Queries, keys and values of `x`: each `[batch, heads, tokens, width / heads]`.
    fn split(&self, x: &Tensor) -> [Tensor; 3] {
        let (batch, tokens, width) = shape(x);
        let qkv = self
            .qkv
            .forward(x)
            .view([batch, tokens, 3, self.heads, width / self.heads])
            .permute([2, 0, 3, 1, 4]);
        // The backward pass of `unbind` stacks three gradients. That of `select` would fill and add
        // three tensors of the whole size.
        <[Tensor; 3]>::try_from(qkv.unbind(0)).expect("three parts of qkv")
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let [q, k, v] = self.split(x);
        let none = None::<Tensor>;
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, none, 0.0, false, None, false);
        self.proj.forward(&y.transpose(1, 2).reshape(x.size()))
    }

    /// The attention weights, `[batch, heads, tokens, tokens]`. Rows sum to one.
    fn weights(&self, x: &Tensor) -> Tensor {
        let [q, k, _] = self.split(x);
        let scale = (q.size()[3] as f64).sqrt();
        (q.matmul(&k.transpose(-2, -1)) / scale).softmax(-1, Kind::Float)
    }
}

/// x + attention(norm(x)), then x + mlp(norm(x)).
#[derive(Debug)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    /// The probability of skipping a branch for an image in training (stochastic depth).
    drop_path: f64,
}

impl Block {
    /// A block for tokens of `width` numbers. The hidden layer of the MLP is four times as wide.
    pub fn new(vars: &Vars, width: i64, heads: i64, init: Init, drop_path: f64) -> Self {
        let mlp = vars / "mlp";
        Block {
            norm1: LayerNorm::new(&(vars / "norm1"), width),
            attn: Attention::new(&(vars / "attn"), width, heads, init),
            norm2: LayerNorm::new(&(vars / "norm2"), width),
            fc1: init.linear(&(&mlp / "fc1"), width, 4 * width),
            fc2: init.linear(&(&mlp / "fc2"), 4 * width, width),
            drop_path,
        }
    }

    /// A second handle to the same weights, for another thread.
    pub(crate) fn shared(&self) -> Self {
        Block {
            norm1: self.norm1.shared(),
            attn: Attention {
                qkv: self.attn.qkv.shared(),
                proj: self.attn.proj.shared(),
                heads: self.attn.heads,
            },
            norm2: self.norm2.shared(),
            fc1: self.fc1.shared(),
            fc2: self.fc2.shared(),
            drop_path: self.drop_path,
        }
    }

    /// `[batch, tokens, width]` to the same.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let x = x + self.drop_path(self.attn.forward(&self.norm1.forward(x)), train);
        let hidden = self.fc1.forward(&self.norm2.forward(&x)).gelu("none");
        &x + self.drop_path(self.fc2.forward(&hidden), train)
    }

    /// The attention weights, given the block's input (see [`Vit::last_attention`](crate::Vit)).
    pub(crate) fn attention(&self, x: &Tensor) -> Tensor {
        self.attn.weights(&self.norm1.forward(x))
    }

    /// Stochastic depth (Huang et al. 2016, arXiv:1603.09382): zeroes a branch for some images and
    /// scales it up for the others.
    fn drop_path(&self, branch: Tensor, train: bool) -> Tensor {
        if !train || self.drop_path == 0.0 {
            return branch;
        }
        let keep = 1.0 - self.drop_path;
        let mut kept = branch.new_empty([branch.size()[0], 1, 1], (Kind::Float, branch.device()));
        branch * (kept.bernoulli_float_(keep) / keep)
    }
}

fn shape(x: &Tensor) -> (i64, i64, i64) {
    let size = x.size();
    (size[0], size[1], size[2])
}

#[cfg(test)]
mod tests {
    use portolan_tensor::Device;

    use super::*;

    #[test]
    fn fused_attention_is_the_softmax_of_queries_and_keys_over_values() {
        let vars = Vars::new(Device::Cpu);
        let attention = Attention::new(&vars, 8, 2, Init::Xavier);
        let x = Tensor::randn([3, 5, 8], (Kind::Float, Device::Cpu));
        let [_, _, v] = attention.split(&x);
        let by_hand = attention.weights(&x).matmul(&v).transpose(1, 2).reshape([3, 5, 8]);
        let by_hand = attention.proj.forward(&by_hand);
        assert!(attention.forward(&x).allclose(&by_hand, 1e-5, 1e-6, false));
    }

    #[test]
    fn stochastic_depth_drops_whole_images_in_training_only_and_keeps_the_mean() {
        let vars = Vars::new(Device::Cpu);
        let block = Block::new(&vars, 4, 1, Init::Normal, 0.25);
        let ones = Tensor::ones([4000, 2, 4], (Kind::Float, Device::Cpu));
        assert_eq!(block.drop_path(ones.copy(), false), ones);
        let dropped = block.drop_path(ones, true);
        let per_image = dropped.view([4000, 8]);
        assert_eq!(per_image.amax(1, false), per_image.amin(1, false));
        let mean = dropped.mean(Kind::Float).double_value(&[]);
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
    }
}
