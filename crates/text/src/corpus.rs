//! Documents with labels, and the part that is held out.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use crate::{Error, Result};

/// A text with labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name: a file without its ending, or a title.
    pub title: String,
    /// The text.
    pub text: String,
    /// What it is, by the kind of label: `genre`, `author`, `class`.
    pub labels: BTreeMap<String, String>,
}

impl Document {
    /// A document without labels.
    pub fn new(title: impl Into<String>, text: impl Into<String>) -> Self {
        Document { title: title.into(), text: text.into(), labels: BTreeMap::new() }
    }

    /// The same with a label.
    #[must_use]
    pub fn with_label(mut self, kind: &str, label: impl Into<String>) -> Self {
        self.labels.insert(kind.to_owned(), label.into());
        self
    }
}

/// The documents of a source.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    /// Its name.
    pub name: String,
    /// The documents, in the order of their titles.
    pub documents: Vec<Document>,
    /// What was left out, each as `location: reason`.
    pub skipped: Vec<String>,
}

/// Which part of a corpus is held out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The last tenth of every document.
    #[default]
    LastTenth,
    /// Every tenth document, whole.
    Documents,
}

/// The two parts of a corpus.
#[derive(Clone, Debug)]
pub struct SplitCorpus {
    /// What is trained on.
    pub train: Vec<Document>,
    /// What is held out.
    pub test: Vec<Document>,
}

/// With one in this many characters, or documents, held out.
const HELD_OUT: usize = 10;

impl Corpus {
    /// A corpus of these documents. Nothing was skipped.
    pub fn new(name: impl Into<String>, documents: Vec<Document>) -> Self {
        Corpus { name: name.into(), documents, skipped: Vec::new() }
    }

    /// The number of characters.
    pub fn characters(&self) -> usize {
        self.documents.iter().map(|document| document.text.chars().count()).sum()
    }

    /// The kinds of labels that all documents have, with at least two different ones.
    pub fn label_kinds(&self) -> Vec<String> {
        let of = |kind: &String| -> Option<BTreeSet<&String>> {
            self.documents.iter().map(|document| document.labels.get(kind)).collect()
        };
        let kinds = self.documents.first().into_iter().flat_map(|first| first.labels.keys());
        kinds.filter(|kind| of(kind).is_some_and(|labels| labels.len() > 1)).cloned().collect()
    }

    /// Splits it into the part to train on and the part that is held out.
    ///
    /// # Errors
    /// When a part would be empty.
    pub fn split(&self, how: Split) -> Result<SplitCorpus> {
        let (train, test) = match how {
            Split::LastTenth => self
                .documents
                .iter()
                .map(last_tenth)
                .filter(|(_, test)| !test.text.is_empty())
                .unzip(),
            Split::Documents => {
                let held_out = |i: usize| i % HELD_OUT == HELD_OUT / 2;
                let part = |test: bool| -> Vec<Document> {
                    let all = self.documents.iter().enumerate();
                    all.filter(|(i, _)| held_out(*i) == test).map(|(_, d)| d.clone()).collect()
                };
                (part(false), part(true))
            }
        };
        if train.is_empty() || test.is_empty() {
            return Err(Error::Missing(format!(
                "{} has too little text to hold a tenth of it out",
                self.name
            )));
        }
        Ok(SplitCorpus { train, test })
    }
}

/// A document without its last tenth, and its last tenth, from the start of a line on if there is
/// one near.
fn last_tenth(document: &Document) -> (Document, Document) {
    let text = &document.text;
    let target = text.len() - text.len() / HELD_OUT;
    let line = text[..floor_boundary(text, target)].rfind('\n').map(|end| end + 1);
    let cut = line.filter(|&cut| cut >= target - text.len() / (5 * HELD_OUT));
    let cut = cut.unwrap_or_else(|| floor_boundary(text, target));
    let part = |text: &str| Document { text: text.to_owned(), ..document.clone() };
    (part(&text[..cut]), part(&text[cut..]))
}

/// The largest start of a character that is not after `place`.
fn floor_boundary(text: &str, place: usize) -> usize {
    (0..=place).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_tenth_begins_at_a_line_and_nothing_is_lost() {
        let text: String = (0..200).map(|i| format!("line {i} änd\n")).collect();
        let corpus = Corpus::new("lines", vec![Document::new("a", text.clone())]);
        let SplitCorpus { train, test } = corpus.split(Split::LastTenth).unwrap();
        assert_eq!(format!("{}{}", train[0].text, test[0].text), text);
        assert!(train[0].text.ends_with('\n') && test[0].text.starts_with("line"));
        let share = test[0].text.len() as f64 / text.len() as f64;
        assert!((share - 0.1).abs() < 0.02, "{share}");
        let one_line = Corpus::new("one", vec![Document::new("a", "ä".repeat(100))]);
        let split = one_line.split(Split::LastTenth).unwrap();
        assert_eq!((split.train[0].text.len(), split.test[0].text.len()), (180, 20));
        assert!(
            Corpus::new("empty", vec![Document::new("a", "")]).split(Split::LastTenth).is_err()
        );
    }

    #[test]
    fn whole_documents_are_in_one_part_only() {
        let documents: Vec<Document> =
            (0..25).map(|i| Document::new(format!("{i}"), format!("text {i}"))).collect();
        let split = Corpus::new("many", documents).split(Split::Documents).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (23, 2));
        assert!(split.test.iter().all(|held| !split.train.contains(held)));
    }

    #[test]
    fn labels_that_tell_nothing_apart_are_left_out() {
        let of = |title: &str, genre: &str| {
            Document::new(title, "x").with_label("genre", genre).with_label("author", "one")
        };
        let corpus = Corpus::new("plays", vec![of("a", "comedy"), of("b", "tragedy")]);
        assert_eq!(corpus.label_kinds(), ["genre"]);
    }
}
