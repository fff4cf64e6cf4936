//! The body of GPT-2 (Radford et al. 2019, *Language Models are Unsupervised Multitask Learners*,
//! section 2.3), as transformers' `GPT2LMHeadModel` has it.

use portolan_tensor::fused::{self, gelu_tanh};
use portolan_tensor::{Kind, Tensor, Vars, no_grad};

use super::{
    INIT_STD, Sees, TextConfig, TextEncoder, attend, dropped, join_heads, rows, split_heads, table,
    weights,
};
use crate::Result;
use crate::layers::LayerNorm;

/// What layer norms add to a variance (`layer_norm_epsilon` of transformers' `GPT2Config`).
const NORM_EPS: f64 = 1e-5;

/// GPT-2: token and position embeddings, pre-norm blocks in which a token sees itself and those
/// before it, a last norm. The output layer is the table of token embeddings ([`Gpt::logits`]).
#[derive(Debug)]
pub struct Gpt {
    config: TextConfig,
    vars: Vars,
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Gpt {
    /// Builds the network with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(config: &TextConfig, vars: &Vars) -> Result<Self> {
        config.validate()?;
        let inner = vars / "transformer";
        let width = config.width;
        Ok(Gpt {
            tokens: table(&inner, "wte", config.vocabulary, width),
            positions: table(&inner, "wpe", config.positions, width),
            blocks: (0..config.depth).map(|i| Block::new(&(&(&inner / "h") / i), config)).collect(),
            norm: LayerNorm::with_eps(&(&inner / "ln_f"), width, NORM_EPS),
            vars: vars.clone(),
            config: config.clone(),
        })
    }

    /// The scores of all tokens as the next one: hidden states `[…, width]` to `[…, vocabulary]`.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        fused::linear(hidden, &self.tokens, None)
    }

    /// The hidden states of these tokens, `[batch, tokens, width]`, which follow those in `cache`
    /// and are added to it. In evaluation mode, without gradients. A cache that is not empty takes
    /// one token at a time.
    ///
    /// # Errors
    /// When the tokens and those before are more than there are positions.
    pub fn next_hidden(&self, ids: &Tensor, cache: &mut KeyValueCache) -> Result<Tensor> {
        let before = cache.tokens();
        self.config.validate_ids(ids, before)?;
        Ok(no_grad(|| {
            let mut x = self.embed(ids, before, false);
            cache.blocks.resize_with(self.blocks.len(), || None);
            for (block, kept) in self.blocks.iter().zip(&mut cache.blocks) {
                x = block.forward(&x, kept);
            }
            self.norm.forward(&x)
        }))
    }

    fn embed(&self, ids: &Tensor, before: i64, train: bool) -> Tensor {
        let places = self.positions.narrow(0, before, ids.size()[1]);
        dropped(rows(&self.tokens, ids) + places, self.config.dropout, train)
    }
}

impl TextEncoder for Gpt {
    fn config(&self) -> &TextConfig {
        &self.config
    }

    fn vars(&self) -> &Vars {
        &self.vars
    }

    /// Padding comes last, so that no token before it sees it.
    fn hidden(&self, ids: &Tensor, _mask: Option<&Tensor>, train: bool) -> Result<Tensor> {
        self.config.validate_ids(ids, 0)?;
        let first = self.embed(ids, 0, train);
        let x = self.blocks.iter().fold(first, |x, block| block.forward_all(&x, train));
        Ok(self.norm.forward(&x))
    }

    fn last_attention(&self, ids: &Tensor, _mask: Option<&Tensor>) -> Result<Tensor> {
        self.config.validate_ids(ids, 0)?;
        let mut x = self.embed(ids, 0, false);
        let (last, before) = self.blocks.split_last().expect("a checked config has blocks");
        for block in before {
            x = block.forward_all(&x, false);
        }
        let [q, k, _] = last.queries_keys_values(&x);
        Ok(weights(&q, &k, &Sees::Past))
    }
}

/// The keys and values of the tokens so far, so that the next token needs a pass of its own only.
#[derive(Debug, Default)]
pub struct KeyValueCache {
    blocks: Vec<Option<[Tensor; 2]>>,
}

impl KeyValueCache {
    /// The number of tokens in it.
    pub fn tokens(&self) -> i64 {
        let first = self.blocks.first().and_then(Option::as_ref);
        first.map_or(0, |[keys, _]| keys.size()[2])
    }
}

/// A fully connected layer whose weight is `[inputs, outputs]`, as in transformers' `Conv1D`.
#[derive(Debug)]
struct Projection {
    weight: Tensor,
    bias: Tensor,
}

impl Projection {
    fn new(vars: &Vars, inputs: i64, outputs: i64, std: f64) -> Self {
        let float = (Kind::Float, vars.device());
        Projection {
            weight: vars.parameter("weight", Tensor::randn([inputs, outputs], float) * std),
            bias: vars.parameter("bias", Tensor::zeros([outputs], float)),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        fused::linear(x, &self.weight.tr(), Some(&self.bias))
    }
}

/// x + attention(norm(x)), then x + mlp(norm(x)).
#[derive(Debug)]
struct Block {
    heads: i64,
    dropout: f64,
    norm1: LayerNorm,
    qkv: Projection,
    proj: Projection,
    norm2: LayerNorm,
    fc1: Projection,
    fc2: Projection,
}

impl Block {
    fn new(vars: &Vars, config: &TextConfig) -> Self {
        let width = config.width;
        // Section 2.3: weights that end a residual branch are smaller by the root of the number of
        // branches.
        let last_std = INIT_STD / ((2 * config.depth) as f64).sqrt();
        let (attn, mlp) = (&(vars / "attn"), &(vars / "mlp"));
        Block {
            heads: config.heads,
            dropout: config.dropout,
            norm1: LayerNorm::with_eps(&(vars / "ln_1"), width, NORM_EPS),
            qkv: Projection::new(&(attn / "c_attn"), width, 3 * width, INIT_STD),
            proj: Projection::new(&(attn / "c_proj"), width, width, last_std),
            norm2: LayerNorm::with_eps(&(vars / "ln_2"), width, NORM_EPS),
            fc1: Projection::new(&(mlp / "c_fc"), width, config.hidden(), INIT_STD),
            fc2: Projection::new(&(mlp / "c_proj"), config.hidden(), width, last_std),
        }
    }

    fn queries_keys_values(&self, x: &Tensor) -> [Tensor; 3] {
        let parts = self.qkv.forward(&self.norm1.forward(x)).chunk(3, -1);
        let parts: Vec<Tensor> = parts.iter().map(|part| split_heads(part, self.heads)).collect();
        <[Tensor; 3]>::try_from(parts).expect("three parts of qkv")
    }

    fn forward_all(&self, x: &Tensor, train: bool) -> Tensor {
        let [q, k, v] = self.queries_keys_values(x);
        let dropout = if train { self.dropout } else { 0.0 };
        self.add_branches(x, &attend(&q, &k, &v, &Sees::Past, dropout), train)
    }

    /// In evaluation mode, with the keys and values of earlier tokens.
    fn forward(&self, x: &Tensor, kept: &mut Option<[Tensor; 2]>) -> Tensor {
        let [q, mut k, mut v] = self.queries_keys_values(x);
        if let Some([keys, values]) = kept {
            k = Tensor::cat(&[&*keys, &k], 2);
            v = Tensor::cat(&[&*values, &v], 2);
        }
        let attended = attend(&q, &k, &v, &Sees::Past, 0.0);
        *kept = Some([k, v]);
        self.add_branches(x, &attended, false)
    }

    fn add_branches(&self, x: &Tensor, attended: &Tensor, train: bool) -> Tensor {
        let branch = self.proj.forward(&join_heads(attended));
        let x = x + dropped(branch, self.dropout, train);
        // `gelu_new`, the approximation with tanh that GPT-2 was trained with.
        let hidden = gelu_tanh(&self.fc1.forward(&self.norm2.forward(&x)));
        let branch = self.fc2.forward(&hidden);
        x + dropped(branch, self.dropout, train)
    }
}
