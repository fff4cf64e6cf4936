//! A trained run of a text method, to fill blanks and to continue text.

use anyhow::{Context, Result, bail, ensure};
use portolan_bert::{Bert, BertConfig};
use portolan_gpt::{Gpt, GptConfig, Sampling};
use portolan_method::Method;
use portolan_tensor::{Device, Kind, Tensor, io, no_grad};
use portolan_text::Tokens;
use std::path::{Path, PathBuf};

use super::config::{MODEL, TOKENIZER, stored};
use super::corpus::vocabulary;
use super::masks;

/// Guesses for a blank.
const GUESSES: i64 = 5;

/// A trained model with its tokenizer.
pub(crate) struct Model {
    run: PathBuf,
    tokens: Tokens,
    network: Network,
    device: Device,
}

enum Network {
    Bert(Bert),
    Gpt(Gpt),
}

/// A guess for a blank.
pub(crate) struct Guess {
    /// The token's text.
    pub(crate) token: String,
    /// Its probability.
    pub(crate) probability: f64,
}

impl Model {
    /// The model of a finished run, on this device.
    ///
    /// # Errors
    /// If the folder is no run of a text method, or the run is not finished.
    pub(crate) fn open(run: &Path, device: Device) -> Result<Self> {
        let config = stored(run)?;
        ensure!(
            run.join(MODEL).exists(),
            "{} has no {MODEL}, since the run is not finished; resume it with portolan pretrain {} \
             --resume {}",
            run.display(),
            config.method,
            run.display()
        );
        let tokens = Tokens::open(&run.join(TOKENIZER))?;
        let vocabulary = vocabulary(&tokens);
        let encoder = config.encoder.with_vocabulary(vocabulary.size);
        let network = if masks(&config) {
            Network::Bert(Bert::new(BertConfig::default(), &encoder, &vocabulary, device)?)
        } else {
            Network::Gpt(Gpt::new(GptConfig {}, &encoder, device)?)
        };
        let state = match &network {
            Network::Bert(bert) => bert.state(),
            Network::Gpt(gpt) => gpt.state(),
        };
        load(&state, &run.join(MODEL))?;
        Ok(Model { run: run.to_owned(), tokens, network, device })
    }

    /// The likeliest tokens for each `[MASK]` in a sentence, blank by blank.
    ///
    /// # Errors
    /// If the run is not of BERT, or the sentence has no blank or is too long.
    pub(crate) fn fill(&self, sentence: &str) -> Result<Vec<Vec<Guess>>> {
        self.bert()?;
        let (first, last) = self.tokens.ends().context("the tokenizer has no [CLS] and [SEP]")?;
        let ids = [vec![first], self.tokens.encode(sentence)?, vec![last]].concat();
        let guesses = self.guesses(&ids)?;
        ensure!(!guesses.is_empty(), "the sentence has no blank; write it as [MASK]");
        Ok(guesses)
    }

    /// The likeliest tokens for each blank among these ids of a whole passage.
    ///
    /// # Errors
    /// If the run is not of BERT, or there are more tokens than positions.
    pub(crate) fn guesses(&self, ids: &[u32]) -> Result<Vec<Vec<Guess>>> {
        let bert = self.bert()?;
        let mask = self.tokens.mask();
        let blanks: Vec<usize> = (0..ids.len()).filter(|&i| Some(ids[i]) == mask).collect();
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let ids = Tensor::from_slice(&ids).unsqueeze(0).to_device(self.device);
        let logits = bert.logits(&ids, None)?.get(0);
        let guesses = |&place: &usize| {
            let shares = logits.get(place as i64).softmax(0, Kind::Double);
            let (best, which) = shares.topk(GUESSES.min(self.tokens.size() as i64), 0, true, true);
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

    fn bert(&self) -> Result<&Bert> {
        match &self.network {
            Network::Bert(bert) => Ok(bert),
            Network::Gpt(_) => bail!(
                "{} is a run of gpt, which continues text; fill needs one of bert",
                self.run.display()
            ),
        }
    }

    /// A text that continues the prompt by `count` tokens.
    ///
    /// # Errors
    /// If the run is not of GPT, or a setting is out of range.
    pub(crate) fn continued(&self, prompt: &str, count: usize, how: &Sampling) -> Result<String> {
        let Network::Gpt(gpt) = &self.network else {
            bail!(
                "{} is a run of bert, which fills blanks; generate needs one of gpt",
                self.run.display()
            );
        };
        let ids: Vec<i64> = self.tokens.encode(prompt)?.into_iter().map(i64::from).collect();
        // Without a prompt, text begins as after the end of another.
        let start = self.tokens.end_of_text().map_or(0, i64::from);
        let ids = if ids.is_empty() { vec![start] } else { ids };
        let more: Vec<u32> =
            gpt.generate(&ids, count, how)?.into_iter().map(|id| id as u32).collect();
        Ok(self.tokens.decode(&more)?)
    }
}

/// Copies the values of a file into these tensors.
fn load(state: &[(String, Tensor)], path: &Path) -> Result<()> {
    let (stored, _) = io::load(path)?;
    for (name, tensor) in state {
        let values =
            stored.get(name).with_context(|| format!("{} has no {name}", path.display()))?;
        ensure!(values.size() == tensor.size(), "{name} in {} has another shape", path.display());
        no_grad(|| tensor.shallow_clone().copy_(values));
    }
    Ok(())
}
