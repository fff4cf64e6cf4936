//! Labels of passages, for classifiers of features.

use anyhow::{Context, Result};
use portolan_evaluate::{LinearProbe, Scores};
use portolan_sequences::Sequences;
use portolan_tensor::Tensor;
use portolan_text::Document;
use std::collections::BTreeSet;

use super::corpus::Prepared;

/// The most passages that a classifier is fitted to, and scored on, in an even sample.
const FITTED: usize = 4_000;
const SCORED: usize = 2_000;

/// Passages with their labels, of which there may be several kinds.
pub(crate) struct Labeled {
    /// Passages to fit classifiers to.
    pub(crate) train: Sequences,
    /// Held-out passages.
    pub(crate) test: Sequences,
    /// Their labels, by kind.
    pub(crate) labels: Vec<Labels>,
}

/// One kind of label.
pub(crate) struct Labels {
    /// What is told apart: author, genre, title, class.
    pub(crate) kind: String,
    /// The names of the classes.
    pub(crate) classes: Vec<String>,
    /// The class of each passage to fit classifiers to.
    pub(crate) train: Vec<i64>,
    /// The class of each held-out passage.
    pub(crate) test: Vec<i64>,
}

impl Labeled {
    /// The passages of a text, without labels if it has none.
    ///
    /// # Errors
    /// If a document lacks a label.
    pub(crate) fn of(prepared: &Prepared) -> Result<Self> {
        let (fitted, scored) =
            (even(prepared.train.len(), FITTED), even(prepared.test.len(), SCORED));
        let split = &prepared.split;
        let documents = &prepared.corpus.documents;
        let mut kinds = prepared.corpus.label_kinds();
        if documents.len() > 1 && kinds.iter().any(|kind| kind == "author") {
            kinds.push("title".to_owned());
        }
        let labels_of = |kind: String| -> Result<Labels> {
            let names: BTreeSet<&str> = documents.iter().map(|it| label(it, &kind)).collect();
            let classes: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let of = |which: &[usize], documents: &[Document], of: &[usize]| {
                let class = |&i: &usize| {
                    let name = label(&documents[of[i]], &kind);
                    let place = classes.iter().position(|class| class == name);
                    Ok(place.context("a document without a label")? as i64)
                };
                which.iter().map(class).collect::<Result<Vec<i64>>>()
            };
            let train = of(&fitted, &split.train, &prepared.train_documents)?;
            let test = of(&scored, &split.test, &prepared.test_documents)?;
            Ok(Labels { kind, classes, train, test })
        };
        Ok(Labeled {
            train: prepared.train.select(&fitted),
            test: prepared.test.select(&scored),
            labels: kinds.into_iter().map(labels_of).collect::<Result<_>>()?,
        })
    }
}

impl Labels {
    /// The accuracy of a linear probe on these features of the passages.
    ///
    /// # Errors
    /// If the probe does not converge.
    pub(crate) fn probe(&self, train: &Tensor, test: &Tensor) -> Result<Scores> {
        let truth = Tensor::from_slice(&self.train);
        let probe = LinearProbe::fit(train, &truth, self.classes.len() as i64)?;
        self.scores(&probe.logits(test)?)
    }

    /// The scores of these logits, `[passages, classes]`, of the held-out passages.
    ///
    /// # Errors
    /// If the numbers differ.
    pub(crate) fn scores(&self, logits: &Tensor) -> Result<Scores> {
        Ok(Scores::of(logits, &Tensor::from_slice(&self.test))?)
    }

    /// The accuracy of always guessing the class that is most common among the passages to fit to.
    pub(crate) fn most_common(&self) -> f64 {
        let count = |of: &[i64], class: i64| of.iter().filter(|&&c| c == class).count();
        let best = self.train.iter().copied().max_by_key(|&class| count(&self.train, class));
        count(&self.test, best.unwrap_or(0)) as f64 / self.test.len().max(1) as f64
    }
}

fn label<'a>(document: &'a Document, kind: &str) -> &'a str {
    match document.labels.get(kind) {
        Some(label) => label,
        None => &document.title,
    }
}

/// Indices below `count`, at most this many, in even distances.
pub(crate) fn even(count: usize, most: usize) -> Vec<usize> {
    let most = most.min(count);
    (0..most).map(|i| i * count / most).collect()
}
