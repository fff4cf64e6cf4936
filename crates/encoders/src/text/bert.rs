//! The body of BERT (Devlin et al. 2018, arXiv:1810.04805), as transformers' `BertModel` without
//! its pooler has it.

use portolan_tensor::{Tensor, Vars};

use super::{
    Sees, TextConfig, TextEncoder, attend, dropped, join_heads, rows, split_heads, table, weights,
};
use crate::layers::{LayerNorm, Linear};
use crate::{Init, Result};

/// Normal with [`super::INIT_STD`], biases zero (`_init_weights` of `modeling_bert.py`).
const INIT: Init = Init::Normal;
/// What layer norms add to a variance (`layer_norm_eps` of transformers' `BertConfig`).
const NORM_EPS: f64 = 1e-12;
/// The segments of a pair of sentences (section 3.2). Only the first is used here; the table keeps
/// its size so that weights can be exchanged.
const SEGMENTS: i64 = 2;

/// BERT: token, position and segment embeddings, a norm, and post-norm blocks in which every token
/// sees all others.
#[derive(Debug)]
pub struct Bert {
    config: TextConfig,
    vars: Vars,
    tokens: Tensor,
    positions: Tensor,
    segments: Tensor,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

impl Bert {
    /// Builds the network with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(config: &TextConfig, vars: &Vars) -> Result<Self> {
        config.validate()?;
        let inner = vars / "bert";
        let (width, layers) = (config.width, &(&inner / "encoder") / "layer");
        let embeddings = &inner / "embeddings";
        Ok(Bert {
            tokens: table(&embeddings, "word_embeddings", config.vocabulary, width),
            positions: table(&embeddings, "position_embeddings", config.positions, width),
            segments: table(&embeddings, "token_type_embeddings", SEGMENTS, width),
            norm: LayerNorm::with_eps(&(&embeddings / "LayerNorm"), width, NORM_EPS),
            blocks: (0..config.depth).map(|i| Block::new(&(&layers / i), config)).collect(),
            vars: vars.clone(),
            config: config.clone(),
        })
    }

    /// The table of token embeddings, `[vocabulary, width]`, which the output layer shares.
    pub fn token_embeddings(&self) -> &Tensor {
        &self.tokens
    }

    fn embed(&self, ids: &Tensor, train: bool) -> Tensor {
        let places = self.positions.narrow(0, 0, ids.size()[1]);
        let x = rows(&self.tokens, ids) + places + self.segments.narrow(0, 0, 1);
        dropped(self.norm.forward(&x), self.config.dropout, train)
    }
}

impl TextEncoder for Bert {
    fn config(&self) -> &TextConfig {
        &self.config
    }

    fn vars(&self) -> &Vars {
        &self.vars
    }

    fn hidden(&self, ids: &Tensor, mask: Option<&Tensor>, train: bool) -> Result<Tensor> {
        self.config.validate_ids(ids, 0)?;
        let first = self.embed(ids, train);
        Ok(self.blocks.iter().fold(first, |x, block| block.forward(&x, mask, train)))
    }

    fn last_attention(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        self.config.validate_ids(ids, 0)?;
        let mut x = self.embed(ids, false);
        let (last, before) = self.blocks.split_last().expect("a checked config has blocks");
        for block in before {
            x = block.forward(&x, mask, false);
        }
        let [q, k, _] = last.queries_keys_values(&x);
        Ok(weights(&q, &k, &Sees::All(mask)))
    }
}

/// norm(x + attention(x)), then norm(x + mlp(x)).
#[derive(Debug)]
struct Block {
    heads: i64,
    dropout: f64,
    query: Linear,
    key: Linear,
    value: Linear,
    proj: Linear,
    norm1: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    norm2: LayerNorm,
}

impl Block {
    fn new(vars: &Vars, config: &TextConfig) -> Self {
        let width = config.width;
        let attention = vars / "attention";
        let (own, after) = (&attention / "self", &attention / "output");
        let output = vars / "output";
        Block {
            heads: config.heads,
            dropout: config.dropout,
            query: INIT.linear(&(&own / "query"), width, width),
            key: INIT.linear(&(&own / "key"), width, width),
            value: INIT.linear(&(&own / "value"), width, width),
            proj: INIT.linear(&(&after / "dense"), width, width),
            norm1: LayerNorm::with_eps(&(&after / "LayerNorm"), width, NORM_EPS),
            fc1: INIT.linear(&(&(vars / "intermediate") / "dense"), width, config.hidden()),
            fc2: INIT.linear(&(&output / "dense"), config.hidden(), width),
            norm2: LayerNorm::with_eps(&(&output / "LayerNorm"), width, NORM_EPS),
        }
    }

    fn queries_keys_values(&self, x: &Tensor) -> [Tensor; 3] {
        [&self.query, &self.key, &self.value]
            .map(|layer| split_heads(&layer.forward(x), self.heads))
    }

    fn forward(&self, x: &Tensor, mask: Option<&Tensor>, train: bool) -> Tensor {
        let [q, k, v] = self.queries_keys_values(x);
        let dropout = if train { self.dropout } else { 0.0 };
        let attended = attend(&q, &k, &v, &Sees::All(mask), dropout);
        let branch = self.proj.forward(&join_heads(&attended));
        let x = self.norm1.forward(&(x + dropped(branch, self.dropout, train)));
        let branch = self.fc2.forward(&self.fc1.forward(&x).gelu("none"));
        self.norm2.forward(&(&x + dropped(branch, self.dropout, train)))
    }
}
