//! BERT: masked language modeling.
//!
//! Devlin et al. 2018, *BERT: Pre-training of Deep Bidirectional Transformers for Language
//! Understanding*, arXiv 1810.04805.
//!
//! ```
//! use portolan_bert::{Bert, BertConfig};
//! use portolan_encoders::TextConfig;
//! use portolan_method::{Batch, Method, StepContext, Vocabulary};
//! use portolan_tensor::{Device, Tensor};
//!
//! // Token 0 is padding, 1 and 2 stand at the ends of a passage, 3 is the mask.
//! let special = vec![0, 1, 2, 3];
//! let vocabulary = Vocabulary { size: 20, mask: Some(3), special, continues: vec![] };
//! let encoder =
//!     TextConfig { vocabulary: 20, positions: 16, width: 8, depth: 1, heads: 2, dropout: 0.1 };
//! let mut bert = Bert::new(BertConfig::default(), &encoder, &vocabulary, Device::Cpu)?;
//! let ids = Tensor::from_slice2(&[[1i64, 7, 8, 9, 2], [1, 5, 4, 2, 0]]);
//! let mask = ids.ne(0);
//! let batch = Batch { inputs: vec![ids, mask], ids: vec![0, 1] };
//! let loss = bert.loss(&batch, &StepContext::new(0, 100, Device::Cpu))?;
//! loss.loss.backward();
//! # anyhow::Ok(())
//! ```
//!
//! Some tokens are hidden, and the network fills them in from all others: those before and those
//! after. The encoder then holds what a token means in its context. There is no prediction of the
//! next sentence: RoBERTa (Liu et al. 2019, arXiv 1907.11692, section 4.2) found that training
//! without it is as good or better. As in RoBERTa, the hidden tokens are drawn anew at every step.

mod config;
mod entry;
mod head;
mod masking;

pub use config::BertConfig;
pub use entry::METHOD;
pub use masking::{Masked, Masking};

use head::MaskedHead;
use portolan_encoders::{Bert as Body, TextConfig, TextEncoder};
use portolan_method::{
    Batch, Error, Method, Result, StepContext, StepLoss, TextMethod, TextScore, Vocabulary,
    text_inputs,
};
use portolan_metrics::names;
use portolan_optim::ParamGroup;
use portolan_tensor::{Device, Kind, Reduction, Tensor, Vars, no_grad};

/// BERT, ready to train.
#[derive(Debug)]
pub struct Bert {
    masking: Masking,
    vars: Vars,
    body: Body,
    head: MaskedHead,
}

impl Bert {
    /// Builds the network with initial values from libtorch's generator.
    ///
    /// # Errors
    /// When a setting is out of range, the vocabularies of encoder and tokenizer differ, or there
    /// is no mask token.
    pub fn new(
        config: BertConfig,
        encoder: &TextConfig,
        vocabulary: &Vocabulary,
        device: Device,
    ) -> Result<Self> {
        let masking = Masking::new(config, encoder, vocabulary, device)?;
        let vars = Vars::new(device);
        let body = Body::new(encoder, &vars)?;
        let head = MaskedHead::new(&(&(&vars / "cls") / "predictions"), encoder);
        Ok(Bert { masking, vars, body, head })
    }

    /// The network's tensors, with the names of transformers' `BertForMaskedLM`.
    pub fn vars(&self) -> &Vars {
        &self.vars
    }

    /// The scores of all tokens at every place, in evaluation mode without gradients: ids
    /// `[batch, tokens]` to `[batch, tokens, vocabulary]`. `mask`, bool `[batch, tokens]`, is false
    /// at padding.
    ///
    /// # Errors
    /// When there are more tokens than positions.
    pub fn logits(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        no_grad(|| Ok(self.scores(&self.body.hidden(ids, mask, false)?)))
    }

    /// The loss of these labels, `[batch, tokens]` int64, -100 where a token does not count: the
    /// mean over those that count, in evaluation mode, with gradients.
    ///
    /// # Errors
    /// As [`Bert::logits`].
    pub fn loss_of(&self, ids: &Tensor, mask: Option<&Tensor>, labels: &Tensor) -> Result<Tensor> {
        let counted = labels.ne(IGNORED);
        let hidden = self.body.hidden(ids, mask, false)?;
        let logits = self.scores(&selected(&hidden, &counted));
        let mean = Reduction::Mean;
        Ok(logits.cross_entropy_loss(&labels.masked_select(&counted), NONE, mean, IGNORED, 0.0))
    }

    fn scores(&self, hidden: &Tensor) -> Tensor {
        self.head.forward(hidden, self.body.token_embeddings())
    }

    /// Scores of the selected tokens, `[n, vocabulary]`, and what these tokens are, `[n]`.
    fn predict(&self, batch: &Batch, cx: &StepContext, train: bool) -> Result<(Tensor, Tensor)> {
        let (ids, mask) = text_inputs(batch)?;
        let masked = self.masking.draw(ids, cx);
        let hidden = self.body.hidden(&masked.ids, mask, train)?;
        let logits = self.scores(&selected(&hidden, &masked.selected));
        Ok((logits, ids.masked_select(&masked.selected)))
    }
}

/// The label of tokens that do not count, as in PyTorch.
const IGNORED: i64 = -100;
const NONE: Option<&Tensor> = None;

/// The rows of `[batch, tokens, width]` where `[batch, tokens]` is true: `[n, width]`.
fn selected(hidden: &Tensor, at: &Tensor) -> Tensor {
    let places = at.flatten(0, -1).nonzero().squeeze_dim(1);
    hidden.flatten(0, 1).index_select(0, &places)
}

impl Method for Bert {
    fn params(&self) -> Vec<ParamGroup> {
        vec![ParamGroup::all("bert", self.vars.parameters())]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.vars.state()
    }

    /// The mean cross entropy of the selected tokens of the whole batch (section 3.1, task 1).
    fn loss(&mut self, batch: &Batch, cx: &StepContext) -> Result<StepLoss> {
        let (logits, truth) = self.predict(batch, cx, true)?;
        let sum = logits.cross_entropy_loss(&truth, NONE, Reduction::Sum, IGNORED, 0.0);
        // Processes select different numbers of tokens, and their gradients are averaged.
        let count = cx.mean(&Tensor::from(truth.size()[0] as f64).to_device(sum.device()))?;
        let loss = sum / count.clamp_min(1.0).to_kind(logits.kind());
        let hits = no_grad(|| logits.argmax(1, false).eq_tensor(&truth));
        let accuracy = if truth.size()[0] == 0 {
            Tensor::zeros([0i64; 0], (Kind::Float, logits.device()))
        } else {
            StepLoss::fraction(&hits)
        };
        Ok(StepLoss { loss, metrics: vec![(names::MASKED_ACCURACY, accuracy)], outputs: None })
    }
}

impl TextMethod for Bert {
    fn encoder(&self) -> &dyn TextEncoder {
        &self.body
    }

    fn score(&self, batch: &Batch, cx: &StepContext) -> Result<TextScore> {
        no_grad(|| {
            let (logits, truth) = self.predict(batch, cx, false)?;
            TextScore::of(&logits, &truth).map_err(Error::from)
        })
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
