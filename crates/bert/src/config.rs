//! BERT's settings.

use portolan_method::{Error, Result};
use serde::{Deserialize, Serialize};

/// The settings of masked language modeling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BertConfig {
    /// The share of tokens that are selected. 0.15 (section 3.1).
    pub mask_rate: f64,
    /// The share of the selected tokens that the mask token replaces. 0.8 (section 3.1).
    pub masked: f64,
    /// The share of the selected tokens that a random token replaces. 0.1 (section 3.1). The rest
    /// stays as it is.
    pub random: f64,
    /// Whether the tokens of a word are selected together, as in the authors' later models
    /// (`do_whole_word_mask` of `create_pretraining_data.py`). Off in the paper.
    pub whole_words: bool,
}

impl Default for BertConfig {
    fn default() -> Self {
        BertConfig { mask_rate: 0.15, masked: 0.8, random: 0.1, whole_words: false }
    }
}

impl BertConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        if !(self.mask_rate > 0.0 && self.mask_rate < 1.0) {
            return Err(Error::Setting(format!(
                "mask_rate is {}; it must be above 0 and below 1",
                self.mask_rate
            )));
        }
        let parts = [self.masked, self.random];
        if parts.iter().any(|part| !(0.0..=1.0).contains(part)) || self.masked + self.random > 1.0 {
            return Err(Error::Setting(format!(
                "masked is {} and random {}; they are shares that add up to at most 1",
                self.masked, self.random
            )));
        }
        Ok(())
    }
}
