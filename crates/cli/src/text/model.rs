//! A trained text network in a folder: a finished run, or one in transformers' layout such as
//! `bert-base-uncased` and `gpt2`.

use anyhow::{Context, Result, bail, ensure};
use portolan_bert::{Bert, BertConfig};
use portolan_gpt::{Gpt, Sampling};
use portolan_interchange::{LoadedText, TextFamily};
use portolan_method::{TextMethod, Vocabulary};
use portolan_tensor::{Device, Kind, Tensor, seed};
use portolan_text::{Corpus, Split, Tokens};
use std::path::{Path, PathBuf};

use super::config::{MODEL, TOKENIZER, TextRunConfig, stored};
use super::corpus::{Cut, Prepared, cut_corpus, open_text, vocabulary};

/// Guesses for a blank.
const GUESSES: i64 = 5;

/// A trained model with its tokenizer.
pub(crate) struct Model {
    path: PathBuf,
    loaded: LoadedText,
    /// The settings of a run; `None` for another folder.
    run: Option<TextRunConfig>,
    tokens: Tokens,
    network: Network,
    /// Whether the output layer was in the folder.
    has_head: bool,
    device: Device,
}

enum Network {
    Bert(Box<Bert>),
    Gpt(Box<Gpt>),
}

/// A guess for a blank.
pub(crate) struct Guess {
    /// The token's text.
    pub(crate) token: String,
    /// Its probability.
    pub(crate) probability: f64,
}

impl Model {
    /// The model in a folder, on this device.
    ///
    /// # Errors
    /// If there is none, or the run is not finished.
    pub(crate) fn open(path: &Path, device: Device) -> Result<Self> {
        let run = path.join("config.toml").exists().then(|| stored(path)).transpose()?;
        if let Some(config) = run.as_ref().filter(|_| !path.join(MODEL).exists()) {
            bail!(
                "{} has no {MODEL}, since the run is not finished; resume it with portolan \
                 pretrain {} --resume {}",
                path.display(),
                config.method,
                path.display()
            );
        }
        let loaded = LoadedText::open(path)?;
        let tokens = Tokens::open(&path.join(TOKENIZER))?;
        let network = network(&loaded, &tokens, device)?;
        let has_head = loaded
            .copy_into(&network.method().state())
            .with_context(|| format!("{} cannot be used", path.display()))?;
        Ok(Model { path: path.to_owned(), loaded, run, tokens, network, has_head, device })
    }

    /// The network.
    pub(crate) fn method(&self) -> &dyn TextMethod {
        self.network.method()
    }

    /// The same network with new initial values.
    ///
    /// # Errors
    /// If libtorch fails.
    pub(crate) fn untrained(&self) -> Result<Box<dyn TextMethod>> {
        seed(self.run.as_ref().map_or(0, |run| run.seed));
        Ok(match network(&self.loaded, &self.tokens, self.device)? {
            Network::Bert(bert) => bert,
            Network::Gpt(gpt) => gpt,
        })
    }

    /// The tokenizer.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// How text is cut for the network.
    pub(crate) fn cut(&self) -> Cut {
        let passages = self.loaded.family == TextFamily::Bert;
        Cut { length: self.loaded.config.positions as usize, passages }
    }

    /// The highest learning rate of pretraining, if the folder is a run.
    pub(crate) fn learning_rate(&self) -> Option<f64> {
        self.run.as_ref().map(|run| run.training.learning_rate)
    }

    /// This text, or that of the run.
    ///
    /// # Errors
    /// If neither is given, or it cannot be read.
    pub(crate) fn corpus(&self, data: Option<&str>) -> Result<Corpus> {
        let own = self.run.as_ref().map(|run| run.data.source.as_str());
        open_text(data.or(own).context("give the text: --data FILE or FOLDER")?)
    }

    /// This text, or that of the run, split as the run has it and cut.
    ///
    /// # Errors
    /// If neither is given, it cannot be read, or it is too short.
    pub(crate) fn prepare(&self, data: Option<&str>) -> Result<Prepared> {
        let corpus = self.corpus(data)?;
        let split = self.run.as_ref().map_or(Split::LastTenth, |run| run.data.split);
        let parts = corpus.split(split)?;
        cut_corpus(corpus, parts, self.tokens.clone(), self.cut())
    }

    /// The likeliest tokens for each `[MASK]` in a sentence, blank by blank.
    ///
    /// # Errors
    /// If the network is not BERT, or the sentence has no blank or is too long.
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
    /// If the network is not BERT, or there are more tokens than positions.
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
        let path = self.path.display();
        match &self.network {
            Network::Bert(bert) => {
                ensure!(self.has_head, "{path} has no output layer (cls.predictions) to fill with");
                Ok(bert)
            }
            Network::Gpt(_) => bail!("{path} has a GPT, which continues text; fill needs a BERT"),
        }
    }

    /// A text that continues the prompt by `count` tokens.
    ///
    /// # Errors
    /// If the network is not GPT, or a setting is out of range.
    pub(crate) fn continued(&self, prompt: &str, count: usize, how: &Sampling) -> Result<String> {
        continued(self.method(), &self.tokens, prompt, count, how)?.with_context(|| {
            let path = self.path.display();
            format!("{path} has a BERT, which fills blanks; generate needs a GPT")
        })
    }
}

impl Network {
    fn method(&self) -> &dyn TextMethod {
        match self {
            Network::Bert(bert) => &**bert,
            Network::Gpt(gpt) => &**gpt,
        }
    }
}

/// The network of a folder with new initial values.
fn network(loaded: &LoadedText, tokens: &Tokens, device: Device) -> Result<Network> {
    let encoder = &loaded.config;
    // A table may have more rows than the tokenizer has tokens.
    let size = encoder.vocabulary.max(tokens.size() as i64);
    let vocabulary = Vocabulary { size, ..vocabulary(tokens) };
    Ok(match loaded.family {
        TextFamily::Bert => {
            let config = BertConfig::default();
            Network::Bert(Box::new(Bert::new(config, encoder, &vocabulary, device)?))
        }
        TextFamily::Gpt2 => Network::Gpt(Box::new(Gpt::new(encoder, device)?)),
    })
}

/// What a method writes after a prompt; `None` if it does not predict the next token.
///
/// # Errors
/// If a setting is out of range.
pub(crate) fn continued(
    method: &dyn TextMethod,
    tokens: &Tokens,
    prompt: &str,
    count: usize,
    how: &Sampling,
) -> Result<Option<String>> {
    let ids: Vec<i64> = tokens.encode(prompt)?.into_iter().map(i64::from).collect();
    // Without a prompt, text begins as after the end of another.
    let start = tokens.end_of_text().map_or(0, i64::from);
    let ids = if ids.is_empty() { vec![start] } else { ids };
    let Some(more) = method.generate(&ids, count, how)? else { return Ok(None) };
    let more: Vec<u32> = more.into_iter().map(|id| id as u32).collect();
    Ok(Some(tokens.decode(&more)?))
}
