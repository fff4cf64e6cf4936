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

use super::config::TextRunConfig;
use super::fetch::shakespeare;
use super::masks;

/// Skipped files that are named; the rest is counted.
const NAMED: usize = 3;

/// The text of a run, ready to train on.
pub(crate) struct Prepared {
    /// The documents.
    pub(crate) corpus: Corpus,
    /// Their two parts.
    pub(crate) split: SplitCorpus,
    /// The tokenizer.
    pub(crate) tokens: Tokens,
    /// Sequences to train on.
    pub(crate) train: Arc<Sequences>,
    /// Held-out sequences.
    pub(crate) test: Sequences,
    /// Characters of the held-out text for each of its tokens.
    pub(crate) characters_per_token: f64,
    /// The SHA-256 of text and tokenizer.
    pub(crate) checksum: String,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

/// Opens the text of a run, trains the tokenizer on the part to train on, and cuts the text.
/// `stored` is the tokenizer of a run that is resumed or used.
///
/// # Errors
/// If the text cannot be read, is too short, or the tokenizer does not fit the method.
pub(crate) fn prepare(config: &TextRunConfig, stored: Option<Tokens>) -> Result<Prepared> {
    let corpus = match config.data.source.as_str() {
        "shakespeare" => shakespeare()?,
        path => open(Path::new(path))?,
    };
    let split = corpus.split(config.data.split)?;
    let tokenizer = &config.tokenizer;
    let (given, file) = (stored.is_some(), &tokenizer.file);
    let tokens = match stored {
        Some(tokens) => tokens,
        None if !file.is_empty() => Tokens::open(Path::new(file))?,
        None => Tokens::train(tokenizer.kind, tokenizer.size, &split.train)?,
    };
    let mut notes = skipped(&corpus);
    let trained = !given && file.is_empty() && tokenizer.kind != TokenizerKind::Characters;
    if trained && tokens.size() < tokenizer.size {
        notes.push(format!(
            "the text supports {}, not the {} asked for",
            counted(tokens.size(), "token", "tokens"),
            tokenizer.size
        ));
    }
    let length = config.encoder.positions as usize;
    let masks = masks(config);
    let of = |documents: &[Document]| sequences(documents, &tokens, length, masks);
    let ((train, train_short), (test, _)) = (of(&split.train)?, of(&split.test)?);
    ensure!(
        !train.is_empty() && !test.is_empty(),
        "{} has too little text for sequences of {length} tokens; set encoder.positions lower",
        corpus.name
    );
    if train_short > 0 {
        notes.push(format!(
            "{} shorter than a sequence of {length} tokens and left out",
            counted(train_short, "document is", "documents are")
        ));
    }
    let characters: usize = split.test.iter().map(|document| document.text.chars().count()).sum();
    let mut count = 0;
    for document in &split.test {
        count += tokens.encode(&document.text)?.len();
    }
    let mut digest = Sha256::new();
    for document in &corpus.documents {
        digest.update(document.text.as_bytes());
        digest.update([0]);
    }
    digest.update(tokens.to_json()?);
    Ok(Prepared {
        checksum: digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        characters_per_token: characters as f64 / count.max(1) as f64,
        train: Arc::new(train),
        test,
        tokens,
        split,
        corpus,
        notes,
    })
}

/// The sequences of documents, and how many documents are too short for one.
pub(crate) fn sequences(
    documents: &[Document],
    tokens: &Tokens,
    length: usize,
    masks: bool,
) -> Result<(Sequences, usize)> {
    let (mut all, mut short) = (Vec::new(), 0);
    let ends = if masks {
        Some(
            tokens
                .ends()
                .context("BERT needs a tokenizer with [CLS] and [SEP], or <s> and </s>")?,
        )
    } else {
        None
    };
    for document in documents {
        let mut ids = tokens.encode(&document.text)?;
        let before = all.len();
        match ends {
            Some((first, last)) => all.extend(passages(&ids, length, first, last)),
            None => {
                ids.extend(tokens.end_of_text());
                all.extend(windows(&ids, length).into_iter().map(<[u32]>::to_vec));
            }
        }
        short += usize::from(all.len() == before);
    }
    let padding = if masks {
        Some(tokens.padding().context("BERT needs a tokenizer with [PAD] or <pad>")?)
    } else {
        None
    };
    Ok((Sequences::new(all, padding), short))
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
