//! Tokenizers: trained on a corpus, or read from `tokenizer.json`.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer, decoders};

use crate::{Document, Error, Result};

/// BERT's special tokens, in the order of its vocabulary file.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// GPT-2's special token, which stands between documents.
const END_OF_TEXT: &str = "<|endoftext|>";
/// The number of bytes that are encoded at once, about.
const PART: usize = 1 << 14;

/// A kind of tokenizer that can be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// One token per character.
    Characters,
    /// Byte pair encoding on bytes, as in GPT-2: nothing is unknown.
    Bpe,
    /// Lower-case pieces of words, as in `bert-base-uncased`.
    WordPiece,
}

/// A tokenizer.
#[derive(Clone, Debug)]
pub struct Tokens {
    inner: Tokenizer,
}

fn failed<E>(action: &str) -> impl FnOnce(E) -> Error
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let action = action.to_owned();
    |source| Error::Tokenizer { action, source: source.into() }
}

fn special(tokens: &[&str]) -> Vec<AddedToken> {
    tokens.iter().map(|token| AddedToken::from(*token, true)).collect()
}

impl Tokens {
    /// Trains a tokenizer of at most `vocabulary` tokens. A small corpus supports fewer
    /// ([`Tokens::size`]); for characters, there are as many as the text has.
    ///
    /// # Errors
    /// When the text is empty, or the vocabulary is smaller than the alphabet.
    pub fn train(kind: TokenizerKind, vocabulary: usize, documents: &[Document]) -> Result<Self> {
        if documents.iter().all(|document| document.text.is_empty()) {
            return Err(Error::Missing("a tokenizer cannot learn from no text".to_owned()));
        }
        let texts = documents.iter().flat_map(|document| parts(&document.text));
        let inner = match kind {
            TokenizerKind::Characters => characters(documents)?,
            TokenizerKind::Bpe => byte_pairs(vocabulary, texts)?,
            TokenizerKind::WordPiece => word_pieces(vocabulary, texts)?,
        };
        Ok(Tokens { inner })
    }

    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be read, or is no tokenizer.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let inner = Tokenizer::from_bytes(bytes)
            .map_err(failed(&format!("in {} cannot be read", path.display())))?;
        Ok(Tokens { inner })
    }

    /// The text of `tokenizer.json`.
    ///
    /// # Errors
    /// When the tokenizer cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(/* pretty */ true).map_err(failed("cannot be written"))
    }

    /// The number of tokens, the special ones included.
    pub fn size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, as the vocabulary has it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of the token that hides another: `[MASK]`, or `<mask>` as in RoBERTa.
    pub fn mask(&self) -> Option<u32> {
        self.id("[MASK]").or_else(|| self.id("<mask>"))
    }

    /// The ids at the start and the end of a passage: `[CLS]` and `[SEP]`, or `<s>` and `</s>`.
    pub fn ends(&self) -> Option<(u32, u32)> {
        let pair = |first, last| Some((self.id(first)?, self.id(last)?));
        pair("[CLS]", "[SEP]").or_else(|| pair("<s>", "</s>"))
    }

    /// The id of padding: `[PAD]`, or `<pad>`.
    pub fn padding(&self) -> Option<u32> {
        self.id("[PAD]").or_else(|| self.id("<pad>"))
    }

    /// The id between documents: GPT-2's `<|endoftext|>`.
    pub fn end_of_text(&self) -> Option<u32> {
        self.id(END_OF_TEXT)
    }

    /// The ids of tokens that stand for no text.
    pub fn special(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let mut ids: Vec<u32> =
            added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Whether each token goes on with the word before it: `##ing` of WordPiece, or a token of byte
    /// pairs that does not start with a space. Empty for other tokenizers.
    pub fn continues(&self) -> Vec<bool> {
        let all: Vec<String> =
            (0..self.size() as u32).map(|id| self.token(id).unwrap_or_default()).collect();
        if all.iter().any(|token| token.starts_with("##")) {
            return all.iter().map(|token| token.starts_with("##")).collect();
        }
        if all.iter().any(|token| token.starts_with('Ġ')) {
            let letter = |token: &str| token.chars().next().is_some_and(char::is_alphabetic);
            return all
                .iter()
                .map(|token| letter(token) && !token.starts_with(['Ġ', 'Ċ']))
                .collect();
        }
        Vec::new()
    }

    /// The tokens of a text, without special tokens at its ends. It is encoded in parts, by all
    /// cores.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encode = |part: &str| self.inner.encode_fast(part, false);
        let encoded: Vec<_> = parts(text)
            .into_par_iter()
            .map(|part| encode(part).map(|encoding| encoding.get_ids().to_vec()))
            .collect::<Result<_, _>>()
            .map_err(failed("cannot encode the text"))?;
        Ok(encoded.concat())
    }

    /// The text of tokens, without special ones.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, /* skip_special_tokens */ true).map_err(failed("cannot decode"))
    }
}

/// Cuts a text after lines, into parts of about [`PART`] bytes.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > PART {
        let end = rest[floor(rest, PART)..].find('\n').map(|end| floor(rest, PART) + end + 1);
        let (part, next) = rest.split_at(end.unwrap_or(rest.len()));
        parts.push(part);
        rest = next;
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

fn floor(text: &str, place: usize) -> usize {
    (0..=place).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

fn characters(documents: &[Document]) -> Result<Tokenizer> {
    let letters: BTreeSet<char> =
        documents.iter().flat_map(|document| document.text.chars()).collect();
    let tokens = SPECIAL.iter().map(|token| (*token).to_owned());
    let vocabulary: HashMap<String, u32> =
        tokens.chain(letters.iter().map(char::to_string)).zip(0..).collect();
    let model = WordLevel::builder()
        .vocab(vocabulary.into_iter().collect())
        .unk_token("[UNK]".to_owned())
        .build()
        .map_err(failed("of characters cannot be built"))?;
    let mut inner = Tokenizer::new(model);
    let each = Split::new(
        SplitPattern::Regex("(?s).".to_owned()),
        SplitDelimiterBehavior::Isolated,
        /* invert */ false,
    );
    inner.with_pre_tokenizer(Some(each.map_err(failed("of characters cannot be built"))?));
    inner.with_decoder(Some(decoders::fuse::Fuse::new()));
    inner.add_special_tokens(special(&SPECIAL)).map_err(failed("refuses its special tokens"))?;
    Ok(inner)
}

fn byte_pairs<'a>(
    vocabulary: usize,
    texts: impl Iterator<Item = &'a str> + Send,
) -> Result<Tokenizer> {
    let alphabet = ByteLevel::alphabet();
    let least = alphabet.len() + 1;
    if vocabulary < least {
        return Err(Error::Setting(format!(
            "a vocabulary of {vocabulary} is too small: byte pairs need at least {least} tokens"
        )));
    }
    let mut inner = Tokenizer::new(BPE::default());
    // As in `gpt2`: no space is put before the text.
    let bytes =
        || ByteLevel::new(/* add_prefix_space */ false, /* trim_offsets */ true, true);
    inner.with_pre_tokenizer(Some(bytes()));
    inner.with_decoder(Some(bytes()));
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocabulary)
        .initial_alphabet(alphabet.into_iter().collect())
        .special_tokens(special(&[END_OF_TEXT]))
        .build();
    inner.train(&mut TrainerWrapper::from(trainer), texts).map_err(failed("cannot be trained"))?;
    Ok(inner)
}

fn word_pieces<'a>(
    vocabulary: usize,
    texts: impl Iterator<Item = &'a str> + Send,
) -> Result<Tokenizer> {
    let model = WordPiece::builder()
        .unk_token("[UNK]".to_owned())
        .build()
        .map_err(failed("of word pieces cannot be built"))?;
    let mut inner = Tokenizer::new(model);
    // As `BertTokenizer` does it: lower case, and accents are dropped.
    inner
        .with_normalizer(Some(BertNormalizer::new(true, true, None, true)))
        .map_err(failed("refuses its normalizer"))?;
    inner.with_pre_tokenizer(Some(BertPreTokenizer));
    inner.with_decoder(Some(decoders::wordpiece::WordPiece::default()));
    let trainer = WordPieceTrainer::builder()
        .show_progress(false)
        .vocab_size(vocabulary)
        .special_tokens(special(&SPECIAL))
        .build();
    inner.train(&mut TrainerWrapper::from(trainer), texts).map_err(failed("cannot be trained"))?;
    Ok(inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn documents() -> Vec<Document> {
        let text =
            "The quick brown fox jumped over the lazy dogs, jumping and jumping.\n".repeat(60);
        vec![Document::new("foxes", text)]
    }

    #[test]
    fn byte_pairs_and_characters_give_the_text_back() {
        for kind in [TokenizerKind::Bpe, TokenizerKind::Characters] {
            let tokens = Tokens::train(kind, 300, &documents()).unwrap();
            let text = "The lazy fox, over the dogs.\n The fox";
            let ids = tokens.encode(text).unwrap();
            assert_eq!(tokens.decode(&ids).unwrap(), text, "{kind:?}");
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), tokens.to_json().unwrap()).unwrap();
            let again = Tokens::open(file.path()).unwrap();
            assert_eq!(again.encode(text).unwrap(), ids, "{kind:?}");
        }
        let bpe = Tokens::train(TokenizerKind::Bpe, 300, &documents()).unwrap();
        let other = "Ωμέγα 漢字 🦊";
        assert_eq!(bpe.decode(&bpe.encode(other).unwrap()).unwrap(), other, "bytes know all");
        assert_eq!(bpe.end_of_text(), Some(0));
    }

    #[test]
    fn word_pieces_know_where_words_go_on() {
        let tokens = Tokens::train(TokenizerKind::WordPiece, 90, &documents()).unwrap();
        let ids = tokens.encode("Jumpinghouse").unwrap();
        let continues = tokens.continues();
        assert!(!continues[ids[0] as usize]);
        assert!(ids.len() > 1 && ids[1..].iter().all(|&id| continues[id as usize]), "{ids:?}");
        assert_eq!(tokens.special(), [0, 1, 2, 3, 4]);
        assert_eq!((tokens.padding(), tokens.mask()), (Some(0), Some(4)));
        assert_eq!(tokens.ends(), Some((2, 3)));
        assert_eq!(tokens.decode(&[2, tokens.id("fox").unwrap(), 3]).unwrap(), "fox");
    }

    #[test]
    fn a_small_corpus_supports_a_small_vocabulary() {
        let tokens = Tokens::train(TokenizerKind::Bpe, 50_000, &documents()).unwrap();
        assert!(tokens.size() < 400, "{}", tokens.size());
        let error = Tokens::train(TokenizerKind::Bpe, 100, &documents()).unwrap_err().to_string();
        assert!(error.contains("100") && error.contains("257"), "{error}");
        assert!(Tokens::train(TokenizerKind::Bpe, 300, &[Document::new("a", "")]).is_err());
    }

    #[test]
    fn long_texts_are_cut_after_lines() {
        let text = "an äöü line of text\n".repeat(5000);
        let cut = parts(&text);
        assert!(cut.len() > 3 && cut.concat() == text);
        assert!(cut.iter().all(|part| part.ends_with('\n')));
        let one = "ä".repeat(PART);
        assert_eq!(parts(&one), [one.as_str()], "a line stays whole");
    }
}
