//! The text of a run, its tokens and its sequences.

use anyhow::{Context, Result, ensure};
use portolan_method::Vocabulary;
use portolan_report::counted;
use portolan_sequences::Sequences;
use portolan_text::{
    Corpus, Document, SplitCorpus, TokenizerKind, Tokens, open, passages, windows,
};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

use super::config::{TextRunConfig, TokenizerConfig};
use super::fetch::shakespeare;
use super::masks;

/// Skipped files that are named; the rest is counted.
const NAMED: usize = 3;

/// The text of a run or of a command, cut into sequences.
pub(crate) struct Prepared {
    /// The documents.
    pub(crate) corpus: Corpus,
    /// Their two parts.
    pub(crate) split: SplitCorpus,
    /// The tokenizer.
    pub(crate) tokens: Tokens,
    /// Sequences to train on.
    pub(crate) train: Arc<Sequences>,
    /// The document of each, by its place in the part to train on.
    pub(crate) train_documents: Vec<usize>,
    /// Held-out sequences.
    pub(crate) test: Sequences,
    /// The document of each, by its place in the held-out part.
    pub(crate) test_documents: Vec<usize>,
    /// Characters of the held-out text for each of its tokens.
    pub(crate) characters_per_token: f64,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

/// How text is cut into sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The tokens of a sequence.
    pub(crate) length: usize,
    /// Whether sequences are passages with ends and padding, as for BERT, or windows.
    pub(crate) passages: bool,
}

/// Opens the text of a run, trains the tokenizer on the part to train on, and cuts the text.
/// `stored` is the tokenizer of a run that is resumed.
///
/// # Errors
/// If the text cannot be read, is too short, or the tokenizer does not fit the method.
pub(crate) fn prepare(config: &TextRunConfig, stored: Option<Tokens>) -> Result<Prepared> {
    let corpus = open_text(&config.data.source)?;
    let split = corpus.split(config.data.split)?;
    let TokenizerConfig { kind, size, file } = &config.tokenizer;
    let mut notes = Vec::new();
    let tokens = match stored {
        Some(tokens) => tokens,
        None if !file.is_empty() => Tokens::open(Path::new(file))?,
        None => {
            let tokens = Tokens::train(*kind, *size, &split.train)?;
            if *kind != TokenizerKind::Characters && tokens.size() < *size {
                let count = counted(tokens.size(), "token", "tokens");
                notes.push(format!("the text supports {count}, not the {size} asked for"));
            }
            tokens
        }
    };
    let cut = Cut { length: config.encoder.positions as usize, passages: masks(config) };
    let mut prepared = cut_corpus(corpus, split, tokens, cut)?;
    prepared.notes.extend(notes);
    Ok(prepared)
}

/// Opens `shakespeare`, or a path.
///
/// # Errors
/// If it cannot be read, or has no text.
pub(crate) fn open_text(source: &str) -> Result<Corpus> {
    match source {
        "shakespeare" => shakespeare(),
        path => Ok(open(Path::new(path))?),
    }
}

/// Cuts both parts of a corpus.
///
/// # Errors
/// If one is too short, or the tokenizer lacks what passages need.
pub(crate) fn cut_corpus(
    corpus: Corpus,
    split: SplitCorpus,
    tokens: Tokens,
    cut: Cut,
) -> Result<Prepared> {
    let (train, test) = (cut.apply(&split.train, &tokens)?, cut.apply(&split.test, &tokens)?);
    ensure!(
        !train.sequences.is_empty() && !test.sequences.is_empty(),
        "{} has too little text for sequences of {} tokens; set encoder.positions lower",
        corpus.name,
        cut.length
    );
    let notes = train.notes(&corpus, cut);
    let characters: usize = split.test.iter().map(|document| document.text.chars().count()).sum();
    Ok(Prepared {
        characters_per_token: characters as f64 / test.tokens.max(1) as f64,
        train: Arc::new(train.sequences),
        train_documents: train.documents,
        test: test.sequences,
        test_documents: test.documents,
        tokens,
        split,
        corpus,
        notes,
    })
}

/// The sequences of some documents.
pub(crate) struct Pieces {
    /// The sequences.
    pub(crate) sequences: Sequences,
    /// The document of each.
    pub(crate) documents: Vec<usize>,
    /// How many documents are too short for one.
    short: usize,
    /// The tokens of all documents.
    tokens: usize,
}

impl Pieces {
    /// What was left out of the corpus.
    pub(crate) fn notes(&self, corpus: &Corpus, cut: Cut) -> Vec<String> {
        let mut notes = skipped(corpus);
        if self.short > 0 {
            notes.push(format!(
                "{} shorter than a sequence of {} tokens and left out",
                counted(self.short, "document is", "documents are"),
                cut.length
            ));
        }
        notes
    }
}

impl Cut {
    /// The sequences of these documents.
    ///
    /// # Errors
    /// If the tokenizer fails, or lacks what passages need.
    pub(crate) fn apply(self, documents: &[Document], tokens: &Tokens) -> Result<Pieces> {
        let special = if self.passages {
            let ends = tokens
                .ends()
                .context("BERT needs a tokenizer with [CLS] and [SEP], or <s> and </s>")?;
            let padding = tokens.padding().context("BERT needs a tokenizer with [PAD] or <pad>")?;
            Some((ends, padding))
        } else {
            None
        };
        let (mut all, mut of, mut short, mut count) = (Vec::new(), Vec::new(), 0, 0);
        for (i, document) in documents.iter().enumerate() {
            let mut ids = tokens.encode(&document.text)?;
            count += ids.len();
            let before = all.len();
            match special {
                Some(((first, last), _)) => all.extend(passages(&ids, self.length, first, last)),
                None => {
                    ids.extend(tokens.end_of_text());
                    all.extend(windows(&ids, self.length).into_iter().map(<[u32]>::to_vec));
                }
            }
            short += usize::from(all.len() == before);
            of.resize(all.len(), i);
        }
        let sequences = Sequences::new(all, special.map(|(_, padding)| padding));
        Ok(Pieces { sequences, documents: of, short, tokens: count })
    }
}

impl Prepared {
    /// The SHA-256 of text and tokenizer, which a resumed run must find again.
    ///
    /// # Errors
    /// If the tokenizer cannot be written as JSON.
    pub(crate) fn checksum(&self) -> Result<String> {
        let mut digest = Sha256::new();
        for document in &self.corpus.documents {
            digest.update(document.text.as_bytes());
            digest.update([0]);
        }
        digest.update(self.tokens.to_json()?);
        Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn skipped(corpus: &Corpus) -> Vec<String> {
    let skipped = &corpus.skipped;
    let mut notes: Vec<String> =
        skipped.iter().take(NAMED).map(|reason| format!("skipped {reason}")).collect();
    if skipped.len() > NAMED {
        notes.push(format!("skipped {} more", skipped.len() - NAMED));
    }
    notes
}

/// What a method must know about the tokenizer.
pub(crate) fn vocabulary(tokens: &Tokens) -> Vocabulary {
    Vocabulary {
        size: tokens.size() as i64,
        mask: tokens.mask().map(i64::from),
        special: tokens.special().into_iter().map(i64::from).collect(),
        continues: tokens.continues(),
    }
}
