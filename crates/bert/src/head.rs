//! The layers between hidden states and scores of tokens.

use portolan_encoders::layers::{LayerNorm, Linear};
use portolan_encoders::{Init, TextConfig};
use portolan_tensor::{Kind, Tensor, Vars, fused};

/// A fully connected layer with GELU and a norm, then the table of token embeddings, transposed,
/// and a bias (`get_masked_lm_output` of `run_pretraining.py`).
#[derive(Debug)]
pub(crate) struct MaskedHead {
    dense: Linear,
    norm: LayerNorm,
    bias: Tensor,
}

impl MaskedHead {
    pub(crate) fn new(vars: &Vars, encoder: &TextConfig) -> Self {
        let (width, float) = (encoder.width, (Kind::Float, vars.device()));
        let transform = vars / "transform";
        MaskedHead {
            bias: vars.parameter("bias", Tensor::zeros([encoder.vocabulary], float)),
            dense: Init::Normal.linear(&(&transform / "dense"), width, width),
            // `layer_norm_eps` of transformers' `BertConfig`.
            norm: LayerNorm::with_eps(&(&transform / "LayerNorm"), width, 1e-12),
        }
    }

    /// `[…, width]` to `[…, vocabulary]`.
    pub(crate) fn forward(&self, hidden: &Tensor, token_embeddings: &Tensor) -> Tensor {
        let x = self.norm.forward(&self.dense.forward(hidden).gelu("none"));
        fused::linear(&x, token_embeddings, Some(&self.bias))
    }
}
