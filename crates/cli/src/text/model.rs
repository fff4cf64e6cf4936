//! A trained run of a text method, to fill blanks and to continue text.

use anyhow::{Context, Result, bail, ensure};
use portolan_bert::{Bert, BertConfig};
use portolan_gpt::{Gpt, GptConfig, Sampling};
use portolan_method::Method;
use portolan_tensor::{Device, Kind, Tensor, io, no_grad};
use portolan_text::Tokens;
use std::path::Path;

use super::config::{MODEL, TOKENIZER, TextRunConfig, stored};
use super::corpus::vocabulary;
use super::masks;

/// Guesses for a blank.
const GUESSES: i64 = 5;

/// A trained model with its tokenizer.
pub(crate) struct Model {
    config: TextRunConfig,
    tokens: Tokens,
    run: std::path::PathBuf,
}

/// A guess for a blank.
pub(crate) struct Guess {
    /// The token's text.
    pub(crate) token: String,
    /// Its probability.
    pub(crate) probability: f64,
}

impl Model {
    /// The model of a finished run.
    ///
    /// # Errors
    /// If the folder is no run of a text method, or the run is not finished.
    pub(crate) fn open(run: &Path) -> Result<Self> {
        let config = stored(run)?;
        ensure!(
            run.join(MODEL).exists(),
            "{} has no {MODEL}, since the run is not finished; resume it with portolan pretrain {} \
             --resume {}",
            run.display(),
            config.method,
            run.display()
        );
        Ok(Model { tokens: Tokens::open(&run.join(TOKENIZER))?, config, run: run.to_owned() })
    }

    fn load(&self, state: &[(String, Tensor)]) -> Result<()> {
        let path = self.run.join(MODEL);
        let (stored, _) = io::load(&path)?;
        for (name, tensor) in state {
            let values =
                stored.get(name).with_context(|| format!("{} has no {name}", path.display()))?;
            ensure!(
                values.size() == tensor.size(),
                "{name} in {} has another shape",
                path.display()
            );
            no_grad(|| tensor.shallow_clone().copy_(values));
        }
        Ok(())
    }

    /// The likeliest tokens for each `[MASK]` in a sentence, blank by blank.
    ///
    /// # Errors
    /// If the run is not of BERT, or the sentence has no blank or is too long.
    pub(crate) fn fill(&self, sentence: &str, device: Device) -> Result<Vec<Vec<Guess>>> {
        ensure!(
            masks(&self.config),
            "{} is a run of {}, which continues text; fill needs one of bert",
            self.run.display(),
            self.config.method
        );
        let (first, last) = self.tokens.ends().context("the tokenizer has no [CLS] and [SEP]")?;
        let ids = [vec![first], self.tokens.encode(sentence)?, vec![last]].concat();
        let guesses = self.guesses(&ids, device)?;
        ensure!(!guesses.is_empty(), "the sentence has no blank; write it as [MASK]");
        Ok(guesses)
    }

    /// The likeliest tokens for each blank among these ids of a whole passage.
    ///
    /// # Errors
    /// If there are more tokens than positions.
    pub(crate) fn guesses(&self, ids: &[u32], device: Device) -> Result<Vec<Vec<Guess>>> {
        let vocabulary = vocabulary(&self.tokens);
        let encoder = self.config.encoder.with_vocabulary(vocabulary.size);
        let bert = Bert::new(BertConfig::default(), &encoder, &vocabulary, device)?;
        self.load(&bert.state())?;
        let mask = self.tokens.mask();
        let blanks: Vec<usize> = (0..ids.len()).filter(|&i| Some(ids[i]) == mask).collect();
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let ids = Tensor::from_slice(&ids).unsqueeze(0).to_device(device);
        let logits = bert.logits(&ids, None)?.get(0);
        let guesses = |&place: &usize| {
            let shares = logits.get(place as i64).softmax(0, Kind::Double);
            let (best, which) = shares.topk(GUESSES.min(vocabulary.size), 0, true, true);
            let best = Vec::<f64>::try_from(best)?;
            let which = Vec::<i64>::try_from(which)?;
            let guess = |(probability, id): (f64, i64)| Guess {
                token: self.tokens.token(id as u32).unwrap_or_default(),
                probability,
            };
            Ok(best.into_iter().zip(which).map(guess).collect())
        };
        blanks.iter().map(guesses).collect()
    }

    /// A text that continues the prompt by `count` tokens.
    ///
    /// # Errors
    /// If the run is not of GPT, or a setting is out of range.
    pub(crate) fn continued(
        &self,
        prompt: &str,
        count: usize,
        how: &Sampling,
        device: Device,
    ) -> Result<String> {
        if masks(&self.config) {
            bail!(
                "{} is a run of {}, which fills blanks; generate needs one of gpt",
                self.run.display(),
                self.config.method
            );
        }
        let encoder = self.config.encoder.with_vocabulary(self.tokens.size() as i64);
        let gpt = Gpt::new(GptConfig {}, &encoder, device)?;
        self.load(&gpt.state())?;
        let ids: Vec<i64> = self.tokens.encode(prompt)?.into_iter().map(i64::from).collect();
        // Without a prompt, text begins as after the end of another.
        let start = self.tokens.end_of_text().map_or(0, i64::from);
        let ids = if ids.is_empty() { vec![start] } else { ids };
        let more: Vec<u32> =
            gpt.generate(&ids, count, how)?.into_iter().map(|id| id as u32).collect();
        Ok(self.tokens.decode(&more)?)
    }
}
