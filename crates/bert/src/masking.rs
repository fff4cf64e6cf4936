//! Which tokens are hidden, and by what.

use portolan_encoders::TextConfig;
use portolan_method::{Error, Result, StepContext, Vocabulary};
use portolan_random::Purpose;
use portolan_tensor::{Device, Kind, Tensor};
use rand::RngExt;

use crate::BertConfig;

/// Hides tokens of passages.
#[derive(Debug)]
pub struct Masking {
    config: BertConfig,
    mask: i64,
    special: Tensor,
    /// The ids of all other tokens.
    ordinary: Tensor,
    /// Whether each token goes on with the word before it, `[vocabulary]`.
    continues: Tensor,
}

/// The passages of a batch with some of their tokens hidden.
#[derive(Debug)]
pub struct Masked {
    /// The token ids that the network sees, `[batch, tokens]`.
    pub ids: Tensor,
    /// Whether a token is selected for prediction, bool `[batch, tokens]`.
    pub selected: Tensor,
}

impl Masking {
    /// For token ids of this vocabulary on this device.
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
        config.validate()?;
        let size = vocabulary.size;
        let refuse = |message: String| Err(Error::Setting(message));
        if size != encoder.vocabulary {
            return refuse(format!(
                "the tokenizer has {size} tokens, and encoder.vocabulary is {}",
                encoder.vocabulary
            ));
        }
        let Some(mask) = vocabulary.mask.filter(|mask| (0..size).contains(mask)) else {
            return refuse("BERT needs a tokenizer with a mask token, [MASK] or <mask>".to_owned());
        };
        let ordinary: Vec<i64> =
            (0..size).filter(|id| *id != mask && !vocabulary.special.contains(id)).collect();
        if ordinary.is_empty() {
            return refuse("the tokenizer has special tokens only".to_owned());
        }
        if config.whole_words && vocabulary.continues.len() as i64 != size {
            return refuse(
                "whole_words needs a tokenizer that marks where words go on, such as WordPiece"
                    .to_owned(),
            );
        }
        let special: Vec<i64> = vocabulary.special.iter().copied().chain([mask]).collect();
        let continues: Vec<i64> = vocabulary.continues.iter().map(|&c| i64::from(c)).collect();
        Ok(Masking {
            config,
            mask,
            special: Tensor::from_slice(&special).to_device(device),
            ordinary: Tensor::from_slice(&ordinary).to_device(device),
            continues: Tensor::from_slice(&continues).to_device(device),
        })
    }

    /// Selects each ordinary token of `ids` (int64, `[batch, tokens]`) with the probability
    /// `mask_rate`, or each word; hides a part of them by the mask token and a part by random ones
    /// (section 3.1).
    pub fn draw(&self, ids: &Tensor, cx: &StepContext) -> Masked {
        let config = &self.config;
        let uniform = |draw| uniform(cx, ids, draw);
        let (select, replace, random) = (uniform(0), uniform(1), uniform(2));
        let select =
            if config.whole_words { select.gather(1, &self.words(ids), false) } else { select };
        let is_special = ids.unsqueeze(-1).eq_tensor(&self.special).any_dim(-1, false);
        let selected = select.lt(config.mask_rate).logical_and(&is_special.logical_not());
        let masked = replace.lt(config.masked).logical_and(&selected);
        let replaced = replace.lt(config.masked + config.random).logical_and(&selected);
        let shown = self.random_tokens(&random).where_self(&replaced, ids);
        Masked { ids: shown.masked_fill(&masked, self.mask), selected }
    }

    /// Ordinary tokens, each as likely as another, for numbers between 0 and 1.
    fn random_tokens(&self, numbers: &Tensor) -> Tensor {
        let count = self.ordinary.size()[0] as f64;
        let places = (numbers * count).floor().clamp(0.0, count - 1.0).to_kind(Kind::Int64);
        self.ordinary.index_select(0, &places.flatten(0, -1)).view_as(&places)
    }

    /// The place of the first token of each token's word, `[batch, tokens]`.
    fn words(&self, ids: &Tensor) -> Tensor {
        let starts = self.continues.index_select(0, &ids.flatten(0, -1)).view_as(ids).eq(0);
        let places = Tensor::arange(ids.size()[1], (Kind::Int64, ids.device()));
        // The first place of a passage counts as a start.
        (places * starts).cummax(1).0
    }
}

/// Numbers between 0 and 1 for this process's part of the whole batch, of the shape of `like`.
fn uniform(cx: &StepContext, like: &Tensor, draw: u64) -> Tensor {
    let (rows, columns) = (cx.processes() * like.size()[0], like.size()[1]);
    let whole = cx.tensor_input(move |cx| {
        let mut stream = cx.rng(Purpose::Mask, draw);
        let numbers: Vec<f32> = (0..rows * columns).map(|_| stream.random()).collect();
        Tensor::from_slice(&numbers).view([rows, columns])
    });
    cx.shard(&whole, 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn draw(config: BertConfig, ids: &Tensor) -> Masked {
        let continues = (0..50).map(|id| id >= 30).collect();
        let special = vec![0, 1, 2, 3];
        let vocabulary = Vocabulary { size: 50, mask: Some(3), special, continues };
        let encoder =
            TextConfig { vocabulary: 50, positions: 9, width: 8, depth: 1, heads: 1, dropout: 0.0 };
        let masking = Masking::new(config, &encoder, &vocabulary, Device::Cpu).unwrap();
        masking.draw(ids, &StepContext::new(5, 9, Device::Cpu))
    }

    fn share(of: &Tensor, among: &Tensor) -> f64 {
        let count = |x: &Tensor| x.sum(Kind::Double).double_value(&[]);
        count(&of.logical_and(among)) / count(among)
    }

    #[test]
    fn rates_over_a_million_tokens_are_those_of_the_paper() {
        portolan_tensor::seed(0);
        let ids = Tensor::randint_low(4, 50, [8192, 128], (Kind::Int64, Device::Cpu));
        let found = draw(BertConfig::default(), &ids);
        let all = ids.ge(0);
        let near = |share: f64, rate: f64| assert!((share - rate).abs() < 0.002, "{share} {rate}");
        near(share(&found.selected, &all), 0.15);
        near(share(&found.ids.eq(3), &found.selected), 0.8);
        let unchanged = found.ids.eq_tensor(&ids);
        // A random token is the token itself once in 46 times.
        near(share(&unchanged, &found.selected), 0.1 + 0.1 / 46.0);
        let random = found.ids.ne(3).logical_and(&unchanged.logical_not());
        near(share(&random, &found.selected), 0.1 - 0.1 / 46.0);
        assert_eq!(share(&unchanged, &found.selected.logical_not()), 1.0);
    }

    #[test]
    fn special_tokens_are_neither_selected_nor_drawn() {
        let ids = Tensor::from_slice(&[1i64, 9, 2, 0]).repeat([400, 1]);
        let config = BertConfig { masked: 0.0, random: 1.0, mask_rate: 0.9, ..Default::default() };
        let found = draw(config, &ids);
        assert!(found.ids.narrow(1, 1, 1).ge(4).all().int64_value(&[]) == 1);
        for place in [0, 2, 3] {
            assert_eq!(found.selected.select(1, place).any().int64_value(&[]), 0);
        }
    }

    #[test]
    fn whole_words_are_selected_together() {
        // Words: 5 30 31, 6, 7 40.
        let ids = Tensor::from_slice(&[5i64, 30, 31, 6, 7, 40]).repeat([500, 1]);
        let config = BertConfig { mask_rate: 0.5, whole_words: true, ..BertConfig::default() };
        let found = draw(config, &ids).selected;
        let at = |place| found.select(1, place);
        assert!(at(0).equal(&at(1)) && at(1).equal(&at(2)) && at(4).equal(&at(5)));
        assert!(!at(2).equal(&at(3)) && !at(3).equal(&at(4)));
        let rate = found.to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        assert!((rate - 0.5).abs() < 0.05, "{rate}");
    }
}
