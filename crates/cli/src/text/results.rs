//! What a run reached: its predictions of held-out text beside simple models, and what its features
//! know.

use anyhow::{Context, Result};
use portolan_method::{TextMethod, TextScore};
use portolan_report::counted;
use portolan_sequences::{Sequences, bag_of_words, features, score};
use portolan_tensor::{Device, Tensor, io};
use portolan_text::KneserNey;
use portolan_train::{Outcome, duration};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::build::build;
use super::config::{PublishedText, TextRunConfig};
use super::corpus::Prepared;
use super::labels::Labeled;
use super::masks;

/// The file of results in a run's folder.
const FILE: &str = "report.json";
/// Characters of the longest n-grams of the baseline.
const ORDER: usize = 6;

/// The results of a run, `report.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    method: String,
    recipe: String,
    data: String,
    epochs: u64,
    seed: u64,
    seconds: f64,
    /// Sequences per second.
    sequences_per_second: f64,
    tokens_per_second: f64,
    /// How well held-out tokens are predicted.
    held_out: HeldOut,
    /// Linear probes on frozen features, by the kind of label.
    probes: BTreeMap<String, Probe>,
    published: Vec<PublishedText>,
    notes: Vec<String>,
    version: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct HeldOut {
    /// Mean negative log probability of a token, in nats.
    nats_per_token: f64,
    /// The share of tokens that were the likeliest.
    accuracy: f64,
    /// The share of the most common token.
    most_common: f64,
    /// For GPT: bits per character, and those of models of n-grams.
    bits_per_character: Option<f64>,
    baselines: BTreeMap<String, f64>,
}

/// Accuracies of linear probes for one kind of label.
#[derive(Debug, Serialize, Deserialize)]
struct Probe {
    classes: usize,
    /// The trained encoder's features: the mean over a passage's tokens in the last layer.
    trained: f64,
    /// Those of the encoder before training.
    untrained: f64,
    /// How often each token is in the passage.
    bag_of_words: f64,
    /// The share of the most common class.
    most_common: f64,
}

/// Measures a trained method.
///
/// # Errors
/// If libtorch fails.
pub(crate) fn measure(
    config: &TextRunConfig,
    prepared: &Prepared,
    method: &dyn TextMethod,
    outcome: &Outcome,
    device: Device,
) -> Result<Results> {
    let found = score(method, &prepared.test, device, config.training.precision)?;
    let gpt = !masks(config);
    let mut baselines = BTreeMap::new();
    if gpt {
        for (name, order) in [("unigram", 1), ("bigram", 2), ("kneser_ney_6", ORDER)] {
            let model = KneserNey::train(order, &prepared.split.train)?;
            baselines.insert(name.to_owned(), model.bits_per_character(&prepared.split.test));
        }
    }
    let bits = found.mean() / std::f64::consts::LN_2 / prepared.characters_per_token;
    let per_sequence = prepared.train.tokens() as f64 / prepared.train.len() as f64;
    Ok(Results {
        method: config.method.clone(),
        recipe: config.recipe.clone(),
        data: prepared.corpus.name.clone(),
        epochs: config.training.epochs,
        seed: config.seed,
        seconds: outcome.seconds,
        sequences_per_second: outcome.images_per_second,
        tokens_per_second: outcome.images_per_second * per_sequence,
        held_out: HeldOut {
            nats_per_token: found.mean(),
            accuracy: TextScore::accuracy(&found),
            most_common: most_common_token(prepared),
            bits_per_character: gpt.then_some(bits),
            baselines,
        },
        probes: probes(config, prepared, method, device)?,
        published: config.published.clone(),
        notes: prepared.notes.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// The accuracy of always guessing the token that is most common in the text to train on, special
/// ones aside.
fn most_common_token(prepared: &Prepared) -> f64 {
    let special: BTreeSet<u32> = prepared.tokens.special().into_iter().collect();
    let count = |sequences: &Sequences| {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for id in sequences.ids().iter().flatten().filter(|id| !special.contains(id)) {
            *counts.entry(*id).or_default() += 1;
        }
        counts
    };
    let (train, test) = (count(&prepared.train), count(&prepared.test));
    let best = train.iter().max_by_key(|(_, count)| **count).map(|(id, _)| *id);
    let hits = best.and_then(|id| test.get(&id)).copied().unwrap_or(0);
    hits as f64 / test.values().sum::<u64>().max(1) as f64
}

/// Linear probes for all kinds of labels, by the kind.
fn probes(
    config: &TextRunConfig,
    prepared: &Prepared,
    method: &dyn TextMethod,
    device: Device,
) -> Result<BTreeMap<String, Probe>> {
    let labeled = Labeled::of(prepared)?;
    if labeled.labels.is_empty() {
        return Ok(BTreeMap::new());
    }
    let of = |compute: &dyn Fn(&Sequences) -> Result<Tensor>| -> Result<[Tensor; 2]> {
        Ok([compute(&labeled.train)?, compute(&labeled.test)?])
    };
    let before = build(config, &prepared.tokens, device)?;
    let [trained, untrained] = [method, &*before]
        .map(|method| of(&|passages| Ok(features(method.encoder(), passages, device)?)));
    let (trained, untrained) = (trained?, untrained?);
    let words = of(&|passages| Ok(bag_of_words(passages, prepared.tokens.size())))?;
    let mut found = BTreeMap::new();
    for labels in &labeled.labels {
        let accuracy = |[train, test]: &[Tensor; 2]| labels.probe(train, test).map(|it| it.top1);
        let probe = Probe {
            classes: labels.classes.len(),
            trained: accuracy(&trained)?,
            untrained: accuracy(&untrained)?,
            bag_of_words: accuracy(&words)?,
            most_common: labels.most_common(),
        };
        found.insert(labels.kind.clone(), probe);
    }
    Ok(found)
}

impl Results {
    /// The results in a finished run's folder.
    ///
    /// # Errors
    /// If there are none.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Writes `report.json`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        Ok(io::write_atomic(&folder.join(FILE), text.as_bytes())?)
    }

    /// The run in one sentence.
    pub(crate) fn sentence(&self) -> String {
        format!(
            "Trained without labels for {} in {}, {:.0} tokens a second.",
            counted(self.epochs as usize, "epoch", "epochs"),
            duration(self.seconds),
            self.tokens_per_second
        )
    }

    /// What was measured, its value, and what to compare it with.
    pub(crate) fn rows(&self) -> Vec<[String; 3]> {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let held_out = &self.held_out;
        let mut rows = Vec::new();
        if let Some(bits) = held_out.bits_per_character {
            let baselines = &held_out.baselines;
            rows.push([
                "bits per character".to_owned(),
                format!("{bits:.3}"),
                format!(
                    "Kneser-Ney of {ORDER} characters {:.3}, bigrams {:.3}, unigrams {:.3}",
                    baselines["kneser_ney_6"], baselines["bigram"], baselines["unigram"]
                ),
            ]);
        }
        rows.push([
            "loss of a token".to_owned(),
            format!("{:.3} nats", held_out.nats_per_token),
            String::new(),
        ]);
        rows.push([
            "accuracy".to_owned(),
            percent(held_out.accuracy),
            format!("the most common token {}", percent(held_out.most_common)),
        ]);
        rows.extend(self.probes.iter().map(|(kind, probe)| {
            let beside = format!(
                "untrained {}, bag of words {}, most common {} ({} classes)",
                percent(probe.untrained),
                percent(probe.bag_of_words),
                percent(probe.most_common),
                probe.classes
            );
            [format!("probe for {kind}"), percent(probe.trained), beside]
        }));
        rows.extend(self.published.iter().map(|published| {
            let PublishedText { source, metric, value, data, setting } = published;
            let metric = metric.replace('_', " ");
            let what = format!("{metric} on {data}; {setting}; not comparable: another text");
            ["published".to_owned(), value.to_string(), format!("{source}: {what}")]
        }));
        rows
    }
}
