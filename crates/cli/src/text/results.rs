//! What a run reached: its predictions of held-out text beside simple models, and what its features
//! know.

use anyhow::{Context, Result};
use portolan_encoders::mean_of_tokens;
use portolan_evaluate::{Features, linear_probe_top1};
use portolan_method::{TextMethod, TextScore};
use portolan_report::counted;
use portolan_sequences::{Sequences, score};
use portolan_tensor::{Device, Kind, Tensor, io, no_grad};
use portolan_text::{Document, KneserNey};
use portolan_train::{Outcome, duration};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::build::build;
use super::config::{PublishedText, TextRunConfig};
use super::corpus::{Prepared, sequences};
use super::masks;

/// Characters of the longest n-grams of the baseline.
const ORDER: usize = 6;
/// Passages of which features are computed at once.
const BATCH: usize = 64;
/// The most passages that a probe is fitted to, and scored on, in an even sample.
const FITTED: usize = 4_000;
const SCORED: usize = 2_000;

/// The results of a run, `report.json`.
#[derive(Debug, Serialize)]
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
    version: &'static str,
}

#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
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
        version: env!("CARGO_PKG_VERSION"),
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

/// The passages of documents with the class of each.
struct Passages {
    sequences: Sequences,
    classes: Vec<i64>,
}

impl Passages {
    /// At most this many of them, evenly.
    fn sample(self, most: usize) -> Self {
        let count = self.classes.len();
        let most = most.min(count);
        let kept: Vec<usize> = (0..most).map(|i| i * count / most).collect();
        let classes = kept.iter().map(|&i| self.classes[i]).collect();
        Passages { sequences: self.sequences.select(&kept), classes }
    }
}

fn probes(
    config: &TextRunConfig,
    prepared: &Prepared,
    method: &dyn TextMethod,
    device: Device,
) -> Result<BTreeMap<String, Probe>> {
    let mut kinds = prepared.corpus.label_kinds();
    if prepared.corpus.documents.len() > 1 && kinds.iter().any(|kind| kind == "author") {
        kinds.push("title".to_owned());
    }
    let mut found = BTreeMap::new();
    if kinds.is_empty() {
        return Ok(found);
    }
    let untrained = build(config, &prepared.tokens, device)?;
    for kind in kinds {
        let label = |document: &Document| match kind.as_str() {
            "title" => document.title.clone(),
            kind => document.labels[kind].clone(),
        };
        let names: BTreeSet<String> = prepared.corpus.documents.iter().map(&label).collect();
        let names: Vec<String> = names.into_iter().collect();
        let of = |documents: &[Document], most| -> Result<Passages> {
            Ok(passages_of(config, prepared, documents, &names, &label)?.sample(most))
        };
        let (train, test) = (of(&prepared.split.train, FITTED)?, of(&prepared.split.test, SCORED)?);
        let classes = names.len() as i64;
        let probe = |features: &dyn Fn(&Sequences) -> Result<Tensor>| -> Result<f64> {
            let of = |passages: &Passages| -> Result<Features> {
                Ok(Features {
                    x: features(&passages.sequences)?,
                    labels: Some(Tensor::from_slice(&passages.classes)),
                    ids: (0..passages.classes.len()).collect(),
                    skipped: Vec::new(),
                })
            };
            Ok(linear_probe_top1(&of(&train)?, &of(&test)?, classes)?)
        };
        let size = prepared.tokens.size();
        found.insert(
            kind.clone(),
            Probe {
                classes: names.len(),
                trained: probe(&|s| embedded(method, s, device))?,
                untrained: probe(&|s| embedded(&*untrained, s, device))?,
                bag_of_words: probe(&|s| Ok(bag_of_words(s, size)))?,
                most_common: most_common_class(&train.classes, &test.classes),
            },
        );
    }
    Ok(found)
}

fn passages_of(
    config: &TextRunConfig,
    prepared: &Prepared,
    documents: &[Document],
    names: &[String],
    label: &dyn Fn(&Document) -> String,
) -> Result<Passages> {
    let masks = masks(config);
    let length = config.encoder.positions as usize;
    let (mut all, mut classes) = (Vec::new(), Vec::new());
    let mut padding = None;
    for document in documents {
        let one = std::slice::from_ref(document);
        let (found, _) = sequences(one, &prepared.tokens, length, masks)?;
        let class = names.iter().position(|name| *name == label(document));
        let class = class.context("a document without a label")? as i64;
        classes.extend(std::iter::repeat_n(class, found.len()));
        all.extend(found.ids().iter().cloned());
        padding = padding.or(prepared.tokens.padding());
    }
    Ok(Passages { sequences: Sequences::new(all, padding.filter(|_| masks)), classes })
}

/// The mean of the last layer over the tokens of each passage, `[passages, width]`.
pub(super) fn embedded(
    method: &dyn TextMethod,
    sequences: &Sequences,
    device: Device,
) -> Result<Tensor> {
    let all: Vec<usize> = (0..sequences.len()).collect();
    let positions = method.encoder().config().positions;
    let mut rows = Vec::new();
    for part in all.chunks(BATCH) {
        // A window of GPT has one token more than there are positions.
        let within = |x: &Tensor| x.narrow(1, 0, positions.min(x.size()[1]));
        let inputs: Vec<Tensor> = sequences.batch(part, device).iter().map(within).collect();
        let mask = inputs.get(1);
        let hidden = no_grad(|| method.encoder().hidden(&inputs[0], mask, false))?;
        rows.push(mean_of_tokens(&hidden, mask).to_kind(Kind::Float).to_device(Device::Cpu));
    }
    Ok(Tensor::cat(&rows, 0))
}

/// The logarithm of one plus the count of each token, `[passages, vocabulary]`, scaled to length 1.
fn bag_of_words(sequences: &Sequences, vocabulary: usize) -> Tensor {
    let mut counts = vec![0f32; sequences.len() * vocabulary];
    for (row, ids) in sequences.ids().iter().enumerate() {
        for &id in ids {
            counts[row * vocabulary + id as usize] += 1.0;
        }
    }
    let counts = Tensor::from_slice(&counts).view([-1, vocabulary as i64]).log1p();
    let lengths = counts.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
    counts / lengths.clamp_min(1e-6)
}

fn most_common_class(train: &[i64], test: &[i64]) -> f64 {
    let count = |of: &[i64], class: i64| of.iter().filter(|&&c| c == class).count();
    let best = train.iter().copied().max_by_key(|&class| count(train, class)).unwrap_or(0);
    count(test, best) as f64 / test.len().max(1) as f64
}

impl Results {
    /// Writes `report.json`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        Ok(io::write_atomic(&folder.join("report.json"), text.as_bytes())?)
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
