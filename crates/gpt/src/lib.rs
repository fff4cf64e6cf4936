//! GPT: next-token prediction and generation.
//!
//! Radford et al. 2018, *Improving Language Understanding by Generative Pre-Training*, and Radford
//! et al. 2019, *Language Models are Unsupervised Multitask Learners* (GPT-2, whose network this
//! is).
//!
//! ```
//! use portolan_encoders::TextConfig;
//! use portolan_gpt::{Gpt, Sampling};
//! use portolan_method::{Batch, Method, StepContext};
//! use portolan_tensor::{Device, Tensor};
//!
//! let encoder =
//!     TextConfig { vocabulary: 20, positions: 8, width: 8, depth: 1, heads: 2, dropout: 0.0 };
//! let mut gpt = Gpt::new(&encoder, Device::Cpu)?;
//! let batch = Batch {
//!     inputs: vec![Tensor::from_slice2(&[[1i64, 7, 8, 9, 2], [1, 5, 4, 2, 0]])],
//!     ids: vec![0, 1],
//! };
//! gpt.loss(&batch, &StepContext::new(0, 100, Device::Cpu))?.loss.backward();
//! let ten_more = gpt.generate(&[1, 7], 10, &Sampling::default())?;
//! assert_eq!(ten_more.len(), 10);
//! # anyhow::Ok(())
//! ```
//!
//! Every token is predicted from those before it, at all places at once: attention is causal, so
//! that a place sees no later one. Nothing is hidden, and every token gives a gradient. A passage
//! is continued by one predicted token after another.

mod entry;
mod generate;

pub use entry::METHOD;
pub use portolan_method::Sampling;

use portolan_encoders::{Gpt as Body, TextConfig, TextEncoder};
use portolan_method::{
    Batch, Error, Method, Result, StepContext, StepLoss, TextMethod, TextScore, text_inputs,
};
use portolan_metrics::names;
use portolan_optim::ParamGroup;
use portolan_tensor::{Device, Reduction, Tensor, Vars, no_grad};

/// GPT, ready to train.
#[derive(Debug)]
pub struct Gpt {
    vars: Vars,
    body: Body,
}

impl Gpt {
    /// Builds the network with initial values from libtorch's generator. Next-token prediction has
    /// no settings of its own.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(encoder: &TextConfig, device: Device) -> Result<Self> {
        let vars = Vars::new(device);
        let body = Body::new(encoder, &vars)?;
        Ok(Gpt { vars, body })
    }

    /// The network's tensors, with the names of transformers' `GPT2LMHeadModel`.
    pub fn vars(&self) -> &Vars {
        &self.vars
    }

    /// The scores of all tokens as the next one at every place, in evaluation mode without
    /// gradients: ids `[batch, tokens]` to `[batch, tokens, vocabulary]`.
    ///
    /// # Errors
    /// When there are more tokens than positions.
    pub fn logits(&self, ids: &Tensor) -> Result<Tensor> {
        no_grad(|| Ok(self.body.logits(&self.body.hidden(ids, None, false)?)))
    }

    /// Scores `[n, vocabulary]` of every next token of a batch, and what these tokens are, `[n]`.
    fn predict(&self, batch: &Batch, train: bool) -> Result<(Tensor, Tensor)> {
        let (ids, mask) = text_inputs(batch)?;
        let tokens = ids.size()[1] - 1;
        let hidden = self.body.hidden(&ids.narrow(1, 0, tokens), None, train)?;
        let (hidden, next) = (hidden.flatten(0, 1), ids.narrow(1, 1, tokens).flatten(0, 1));
        let Some(mask) = mask else { return Ok((self.body.logits(&hidden), next)) };
        // Padding is not predicted.
        let counted = mask.narrow(1, 1, tokens).flatten(0, 1).nonzero().squeeze_dim(1);
        let hidden = hidden.index_select(0, &counted);
        Ok((self.body.logits(&hidden), next.index_select(0, &counted)))
    }
}

impl Method for Gpt {
    fn params(&self) -> Vec<ParamGroup> {
        vec![ParamGroup::all("gpt", self.vars.parameters())]
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.vars.state()
    }

    /// The mean cross entropy of all next tokens (equation 1 of the first paper).
    fn loss(&mut self, batch: &Batch, _cx: &StepContext) -> Result<StepLoss> {
        let (logits, next) = self.predict(batch, /* train */ true)?;
        let loss = logits.cross_entropy_loss(&next, None::<&Tensor>, Reduction::Mean, -100, 0.0);
        let hits = no_grad(|| logits.argmax(1, false).eq_tensor(&next));
        let metrics = vec![(names::NEXT_TOKEN_ACCURACY, StepLoss::fraction(&hits))];
        Ok(StepLoss { loss, metrics, outputs: None })
    }
}

impl TextMethod for Gpt {
    fn encoder(&self) -> &dyn TextEncoder {
        &self.body
    }

    fn score(&self, batch: &Batch, _cx: &StepContext) -> Result<TextScore> {
        no_grad(|| {
            let (logits, next) = self.predict(batch, /* train */ false)?;
            TextScore::of(&logits, &next).map_err(Error::from)
        })
    }

    fn generate(&self, prompt: &[i64], count: usize, how: &Sampling) -> Result<Option<Vec<i64>>> {
        Gpt::generate(self, prompt, count, how).map(Some)
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
