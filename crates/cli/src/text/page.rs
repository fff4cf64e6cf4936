//! `report.html` of a run on text: results, curves, filled blanks, samples and nearest passages.

use anyhow::{Context, Result};
use portolan_gpt::Sampling;
use portolan_method::TextMethod;
use portolan_metrics::{FILE, read_metrics};
use portolan_report::{FilledPassage, TextPage, write_text_html};
use portolan_tensor::{Device, Kind};
use std::path::{Path, PathBuf};

use super::config::TextRunConfig;
use super::corpus::Prepared;
use super::model::Model;
use super::results::{Results, embedded};
use super::{find, masks};

/// Passages with blanks, and held-out passages with their nearest.
const SHOWN: usize = 4;
/// One token in this many is a blank.
const BLANK_EVERY: usize = 9;
/// Tokens of a sample.
const SAMPLED: usize = 120;
/// The temperatures of the samples.
const TEMPERATURES: [f64; 3] = [0.5, 0.8, 1.0];
/// Passages among which the nearest is searched.
const SEARCHED: usize = 4_000;

/// Writes the page of a finished run and returns its path.
///
/// # Errors
/// If the run's files cannot be read, or the page cannot be written.
pub(crate) fn write(
    config: &TextRunConfig,
    prepared: &Prepared,
    method: &dyn TextMethod,
    results: &Results,
    folder: &Path,
    device: Device,
) -> Result<PathBuf> {
    let model = Model::open(folder, device)?;
    let title = find(&config.method).map_or("", |entry| entry.title);
    let (filled, samples) = if masks(config) {
        (filled(prepared, &model)?, Vec::new())
    } else {
        (Vec::new(), samples(&model)?)
    };
    let metrics = read_metrics(&folder.join(FILE))?;
    let config_toml = std::fs::read_to_string(folder.join("config.toml"))
        .context("the settings of the run cannot be read")?;
    let page = TextPage {
        title: &format!("{title} on {}", prepared.corpus.name),
        lead: &results.sentence(),
        results: &results.rows(),
        metrics: &metrics,
        filled: &filled,
        samples: &samples,
        neighbors: &neighbors(prepared, method, device)?,
        config_toml: &config_toml,
    };
    Ok(write_text_html(&page, folder)?)
}

/// Held-out passages with every ninth token blank.
fn filled(prepared: &Prepared, model: &Model) -> Result<Vec<FilledPassage>> {
    let tokens = &prepared.tokens;
    let mask = tokens.mask().context("the tokenizer has no mask token")?;
    let all = prepared.test.ids();
    let passages = (0..SHOWN.min(all.len())).map(|i| &all[i * all.len() / SHOWN]);
    let text = |ids: &[u32]| {
        let words = ids.iter().filter_map(|&id| tokens.token(id));
        words.collect::<Vec<_>>().join(" ").replace(" ##", "")
    };
    passages
        .map(|ids| {
            let blank = |place: usize| place % BLANK_EVERY == BLANK_EVERY / 2;
            let inner = 1..ids.len().saturating_sub(1);
            let truths: Vec<u32> = inner.clone().filter(|&i| blank(i)).map(|i| ids[i]).collect();
            let hidden: Vec<u32> = (0..ids.len())
                .map(|i| if inner.contains(&i) && blank(i) { mask } else { ids[i] })
                .collect();
            let guesses = model.guesses(&hidden)?;
            let named = guesses.into_iter().map(|guesses| {
                guesses.into_iter().map(|guess| (guess.token, guess.probability)).collect()
            });
            let truths = truths.into_iter().map(|id| tokens.token(id).unwrap_or_default());
            let shown = &hidden[1..hidden.len().saturating_sub(1)];
            Ok(FilledPassage { passage: text(shown), blanks: truths.zip(named).collect() })
        })
        .collect()
}

fn samples(model: &Model) -> Result<Vec<[String; 2]>> {
    let of = |temperature: f64| -> Result<[String; 2]> {
        let how = Sampling { temperature, ..Sampling::default() };
        let text = model.continued("", SAMPLED, &how)?;
        Ok([format!("temperature {temperature}"), text])
    };
    TEMPERATURES.into_iter().map(of).collect()
}

/// Held-out passages, each with the nearest of the text that was trained on by the cosine of their
/// features.
fn neighbors(
    prepared: &Prepared,
    method: &dyn TextMethod,
    device: Device,
) -> Result<Vec<[String; 2]>> {
    let even = |count: usize, most: usize| -> Vec<usize> {
        let most = most.min(count);
        (0..most).map(|i| i * count / most).collect()
    };
    let bank = prepared.train.select(&even(prepared.train.len(), SEARCHED));
    let queries = prepared.test.select(&even(prepared.test.len(), SHOWN));
    let unit = |x: portolan_tensor::Tensor| {
        let lengths = x.norm_scalaropt_dim(2.0, [1i64].as_slice(), true).clamp_min(1e-12);
        x / lengths
    };
    let bank_features = unit(embedded(method, &bank, device)?);
    let features = unit(embedded(method, &queries, device)?);
    let nearest = features.matmul(&bank_features.tr()).argmax(1, false).to_kind(Kind::Int64);
    let nearest = Vec::<i64>::try_from(nearest)?;
    let pairs = queries.ids().iter().zip(nearest);
    let text = |ids: &[u32]| prepared.tokens.decode(ids);
    pairs.map(|(ids, i)| Ok([text(ids)?, text(&bank.ids()[i as usize])?])).collect()
}
