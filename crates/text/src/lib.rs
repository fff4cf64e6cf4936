//! Text for pretraining: where it comes from, its tokens, and what simple models know about it.
//!
//! ```
//! use portolan_text::{Corpus, Document, KneserNey, Split, TokenizerKind, Tokens, windows};
//!
//! let text = "the quick brown fox jumps over the lazy dog. ".repeat(40);
//! let corpus = Corpus::new("foxes", vec![Document::new("fox", text)]);
//! let split = corpus.split(Split::LastTenth)?;
//! let tokens = Tokens::train(TokenizerKind::Bpe, 280, &split.train)?;
//! let ids = tokens.encode(&split.train[0].text)?;
//! assert_eq!(tokens.decode(&ids)?, split.train[0].text);
//! // Windows of 16 tokens and the one that follows, for GPT.
//! assert!(windows(&ids, 16).iter().all(|window| window.len() == 17));
//! // What a model of n-grams knows about the rest, in bits per character.
//! let bits = KneserNey::train(3, &split.train)?.bits_per_character(&split.test);
//! assert!(bits < 1.0);
//! # anyhow::Ok(())
//! ```
//!
//! A [`Corpus`] is a list of documents with labels. Its held-out part is the end of every document
//! or whole documents, never passages in between: neighbors of a passage say too much about it.
//! Tokenizers are those of Hugging Face's `tokenizers` crate, so that `tokenizer.json` works in
//! both worlds.
//!
//! The crate knows no tensors.

mod corpus;
mod error;
mod ngrams;
mod open;
mod sequences;
mod shakespeare;
mod tokens;

pub use corpus::{Corpus, Document, Split, SplitCorpus};
pub use error::{Error, Result};
pub use ngrams::KneserNey;
pub use open::open;
pub use sequences::{passages, windows};
pub use shakespeare::{ARCHIVE_SHA256, REQUIREMENT, read_archive};
pub use tokens::{TokenizerKind, Tokens};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
