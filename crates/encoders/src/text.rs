//! Transformers for text, with the parameter names and initial values of Hugging Face's
//! transformers: BERT and GPT-2.

mod bert;
mod gpt;

pub use bert::Bert;
pub use gpt::{Gpt, KeyValueCache};

use portolan_tensor::{Kind, Tensor, Vars};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The standard deviation of initial weights (`initializer_range` of transformers' configs).
const INIT_STD: f64 = 0.02;

/// The settings of a transformer for text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// The number of tokens that the tokenizer knows.
    pub vocabulary: i64,
    /// The most tokens of a sequence, which is the number of learned positions.
    pub positions: i64,
    /// The dimension of a token.
    pub width: i64,
    /// The number of blocks.
    pub depth: i64,
    /// The number of attention heads.
    pub heads: i64,
    /// The probability of zeroing a number in training: of embeddings, attention weights and the
    /// outputs of branches. 0.1 in both papers.
    pub dropout: f64,
}

impl TextConfig {
    /// The width of the hidden layer of a block's MLP: four times that of a token in both papers.
    pub const fn hidden(&self) -> i64 {
        4 * self.width
    }

    fn validate(&self) -> Result<()> {
        let sizes = [
            ("vocabulary", self.vocabulary),
            ("positions", self.positions),
            ("width", self.width),
            ("depth", self.depth),
            ("heads", self.heads),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| *size < 1) {
            return Err(Error::Setting(format!("{name} is {size}; it must be at least 1")));
        }
        if self.width % self.heads != 0 {
            return Err(Error::Setting(format!(
                "heads is {}, which does not divide the width of {}",
                self.heads, self.width
            )));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::Setting(format!(
                "dropout is {}; it must be at least 0 and below 1",
                self.dropout
            )));
        }
        Ok(())
    }

    /// Checks the shape of token ids, `[batch, tokens]`.
    fn validate_ids(&self, ids: &Tensor, before: i64) -> Result<()> {
        let shape = ids.size();
        if shape.len() != 2 || ids.kind() != Kind::Int64 {
            return Err(Error::Tokens(format!(
                "token ids are int64 of the shape [batch, tokens]; these are {:?} of {shape:?}",
                ids.kind()
            )));
        }
        if before + shape[1] > self.positions {
            return Err(Error::Tokens(format!(
                "{} tokens are more than the {} positions of the encoder",
                before + shape[1],
                self.positions
            )));
        }
        Ok(())
    }
}

/// A network that turns token ids into one vector per token.
pub trait TextEncoder: std::fmt::Debug {
    /// Its settings.
    fn config(&self) -> &TextConfig;

    /// Its tensors, with the names of transformers.
    fn vars(&self) -> &Vars;

    /// The hidden states after the last block: token ids `[batch, tokens]`, int64, to
    /// `[batch, tokens, width]`. `mask`, bool `[batch, tokens]`, is false where there is only
    /// padding, at the end of a sequence; `None` if there is none.
    ///
    /// # Errors
    /// When there are more tokens than positions.
    fn hidden(&self, ids: &Tensor, mask: Option<&Tensor>, train: bool) -> Result<Tensor>;

    /// The attention weights of the last block, `[batch, heads, tokens, tokens]`, in evaluation
    /// mode. Rows sum to one.
    ///
    /// # Errors
    /// As [`TextEncoder::hidden`].
    fn last_attention(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor>;
}

/// The mean of the hidden states (`[batch, tokens, width]`) over the tokens that `mask` keeps:
/// `[batch, width]`. It is the feature of a passage.
pub fn mean_of_tokens(hidden: &Tensor, mask: Option<&Tensor>) -> Tensor {
    match mask {
        None => hidden.mean_dim([1i64].as_slice(), false, None::<Kind>),
        Some(mask) => {
            let kept = mask.to_kind(hidden.kind()).unsqueeze(-1);
            let sum = (hidden * &kept).sum_dim_intlist([1i64].as_slice(), false, None::<Kind>);
            sum / kept.sum_dim_intlist([1i64].as_slice(), false, None::<Kind>).clamp_min(1.0)
        }
    }
}

/// Which tokens a token sees.
enum Sees<'a> {
    /// All that the mask, bool `[batch, tokens]`, keeps.
    All(Option<&'a Tensor>),
    /// Itself and those before.
    Past,
}

/// Splits `[batch, tokens, width]` into heads: `[batch, heads, tokens, width / heads]`.
fn split_heads(x: &Tensor, heads: i64) -> Tensor {
    let size = x.size();
    x.view([size[0], size[1], heads, size[2] / heads]).transpose(1, 2)
}

/// Joins heads again.
fn join_heads(x: &Tensor) -> Tensor {
    let size = x.size();
    x.transpose(1, 2).reshape([size[0], size[2], size[1] * size[3]])
}

/// Attention of queries to keys over values, each `[batch, heads, tokens, width / heads]`.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, sees: &Sees, dropout: f64) -> Tensor {
    let (mask, causal) = match sees {
        Sees::All(mask) => (mask.map(|mask| mask.unsqueeze(1).unsqueeze(1)), false),
        // A single query is the newest token, which sees all.
        Sees::Past => (None, q.size()[2] > 1),
    };
    Tensor::scaled_dot_product_attention(q, k, v, mask, dropout, causal, None, false)
}

/// The attention weights of `[batch, heads, tokens, width / heads]`.
fn weights(q: &Tensor, k: &Tensor, sees: &Sees) -> Tensor {
    let scores = q.matmul(&k.transpose(-2, -1)) / (q.size()[3] as f64).sqrt();
    let seen = match sees {
        Sees::All(mask) => mask.map(|mask| mask.unsqueeze(1).unsqueeze(1)),
        Sees::Past => {
            let tokens = q.size()[2];
            Some(Tensor::ones([tokens, tokens], (Kind::Bool, q.device())).tril(0))
        }
    };
    let scores = match seen {
        Some(seen) => scores.masked_fill(&seen.logical_not(), f64::NEG_INFINITY),
        None => scores,
    };
    scores.softmax(-1, Kind::Float)
}

fn dropped(x: Tensor, probability: f64, train: bool) -> Tensor {
    if train && probability > 0.0 { x.dropout(probability, true) } else { x }
}

/// A table of vectors, `[rows, width]`.
fn table(vars: &Vars, name: &str, rows: i64, width: i64) -> Tensor {
    let values = Tensor::randn([rows, width], (Kind::Float, vars.device())) * INIT_STD;
    (vars / name).parameter("weight", values)
}

/// The rows of a table for these ids.
fn rows(table: &Tensor, ids: &Tensor) -> Tensor {
    Tensor::embedding(table, ids, -1, false, false)
}

#[cfg(test)]
mod tests;
