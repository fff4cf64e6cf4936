//! The traits and the registry entry of methods that learn from text.

use portolan_encoders::{TextConfig, TextEncoder};
use portolan_metrics::MethodTraits;
use portolan_tensor::{Device, Kind, Reduction, Tensor};

use crate::entry::recipe;
use crate::{Batch, Error, Method, Recipe, Result, StepContext};

/// A method that learns a text encoder from sequences of tokens.
pub trait TextMethod: Method {
    /// The encoder without its output layer, which is the result of pretraining.
    fn encoder(&self) -> &dyn TextEncoder;

    /// How well the tokens of a batch are predicted, in evaluation mode without gradients.
    ///
    /// # Errors
    /// When the batch does not fit the method.
    fn score(&self, batch: &Batch, cx: &StepContext) -> Result<TextScore>;

    /// The `count` tokens that follow `prompt`; `None` if the method does not predict the next
    /// token.
    ///
    /// # Errors
    /// When the prompt is empty, or a setting or token is out of range.
    fn generate(
        &self,
        _prompt: &[i64],
        _count: usize,
        _how: &Sampling,
    ) -> Result<Option<Vec<i64>>> {
        Ok(None)
    }
}

/// A boxed text method.
pub type BoxedTextMethod = Box<dyn TextMethod>;

/// How the next token is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the scores before the softmax; 0 takes the likeliest token. 1 draws from the model's
    /// own distribution.
    pub temperature: f64,
    /// Draws from this many of the likeliest tokens; 0 for all.
    pub top_k: usize,
    /// The seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    /// Those of nanoGPT's `sample.py`.
    fn default() -> Self {
        Sampling { temperature: 0.8, top_k: 200, seed: 1337 }
    }
}

/// How well tokens were predicted. Scores of several batches add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TextScore {
    /// The sum of their negative log probabilities, in nats.
    pub nats: f64,
    /// How many were predicted.
    pub tokens: u64,
    /// For how many the likeliest token was the true one.
    pub hits: u64,
}

impl TextScore {
    /// The score of `logits`, `[n, vocabulary]`, for the true tokens, `[n]`, int64.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn of(
        logits: &Tensor,
        truth: &Tensor,
    ) -> std::result::Result<Self, portolan_tensor::Error> {
        let nats = logits.cross_entropy_loss(truth, None::<&Tensor>, Reduction::Sum, -100, 0.0);
        let hits = logits.argmax(1, false).eq_tensor(truth).sum(Kind::Int64);
        Ok(TextScore {
            nats: f64::try_from(nats.to_kind(Kind::Double))?,
            tokens: truth.size()[0] as u64,
            hits: u64::try_from(i64::try_from(hits)?).unwrap_or(0),
        })
    }

    /// The mean negative log probability of a token, in nats.
    pub fn mean(&self) -> f64 {
        self.nats / self.tokens.max(1) as f64
    }

    /// The share of tokens that were the likeliest.
    pub fn accuracy(&self) -> f64 {
        self.hits as f64 / self.tokens.max(1) as f64
    }
}

impl std::ops::AddAssign for TextScore {
    fn add_assign(&mut self, other: Self) {
        self.nats += other.nats;
        self.tokens += other.tokens;
        self.hits += other.hits;
    }
}

/// The token ids of a batch, int64 `[batch, tokens]`, and where they are not padding, bool of the
/// same shape, if there is padding.
///
/// # Errors
/// When the batch has other inputs.
pub fn text_inputs(batch: &Batch) -> Result<(&Tensor, Option<&Tensor>)> {
    let (ids, mask) = match &batch.inputs[..] {
        [ids] => (ids, None),
        [ids, mask] => (ids, Some(mask)),
        inputs => {
            return Err(Error::Batch(format!(
                "a text method wants token ids and perhaps a mask, and was handed {} tensors",
                inputs.len()
            )));
        }
    };
    let shape = ids.size();
    if shape.len() != 2 || shape[1] < 2 || mask.is_some_and(|mask| mask.size() != shape) {
        return Err(Error::Batch(format!(
            "token ids have the shape [batch, tokens] with at least two tokens, and their mask \
             has the same; these have {shape:?}"
        )));
    }
    Ok((ids, mask))
}

/// What a text method must know about a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// The number of tokens.
    pub size: i64,
    /// The id of the mask token, if there is one.
    pub mask: Option<i64>,
    /// The ids of tokens that stand for no text: padding, the ends of a passage, the mask.
    pub special: Vec<i64>,
    /// Whether each token goes on with the word before it; empty if unknown.
    pub continues: Vec<bool>,
}

/// What a program needs in order to list, configure and build a text method.
#[derive(Clone, Copy, Debug)]
pub struct TextMethodEntry {
    /// The name on the command line and in settings: `bert`.
    pub name: &'static str,
    /// The name in running text: `BERT`.
    pub title: &'static str,
    /// What the doctor needs to know about the method.
    pub traits: MethodTraits,
    /// Whether it fills blanks of whole passages; otherwise it predicts the next token of windows.
    pub masks: bool,
    /// Complete settings for each data set, the default first.
    pub recipes: &'static [Recipe],
    /// Builds the method from its settings, the encoder, the vocabulary and the device.
    pub build: fn(toml::Table, &TextConfig, &Vocabulary, Device) -> Result<BoxedTextMethod>,
}

impl TextMethodEntry {
    /// The recipe of this name.
    ///
    /// # Errors
    /// When the method has none of that name; the message lists its recipes.
    pub fn recipe(&self, name: &str) -> Result<toml::Table> {
        recipe(self.name, self.recipes, name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scores_add_up_to_those_of_all_tokens() {
        let logits = Tensor::from_slice2(&[[2.0, 0.0, 1.0], [0.0, 3.0, 0.0], [1.0, 1.5, 0.0]]);
        let truth = Tensor::from_slice(&[0i64, 1, 2]);
        let all = TextScore::of(&logits, &truth).unwrap();
        let mut parts = TextScore::of(&logits.narrow(0, 0, 1), &truth.narrow(0, 0, 1)).unwrap();
        parts += TextScore::of(&logits.narrow(0, 1, 2), &truth.narrow(0, 1, 2)).unwrap();
        assert_eq!((all.tokens, all.hits), (3, 2));
        assert_eq!((all.tokens, all.hits), (parts.tokens, parts.hits));
        assert!((all.nats - parts.nats).abs() < 1e-9 && all.nats > 0.0);
    }

    #[test]
    fn batches_of_another_form_are_refused() {
        let batch = |inputs: Vec<Tensor>| Batch { inputs, ids: vec![0, 1] };
        let ids = Tensor::from_slice2(&[[1i64, 2], [3, 4]]);
        assert!(text_inputs(&batch(vec![ids.shallow_clone()])).is_ok());
        assert!(text_inputs(&batch(vec![])).is_err());
        assert!(text_inputs(&batch(vec![ids.get(0)])).is_err());
        let mask = ids.ge(0).narrow(1, 0, 1);
        assert!(text_inputs(&batch(vec![ids, mask])).is_err());
    }
}
