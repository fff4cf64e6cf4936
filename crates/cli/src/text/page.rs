//! `report.html` of a run on text: results, curves, filled blanks, samples, attention and
//! nearest passages.

use anyhow::{Context, Result};
use portolan_evaluate::neighbors as nearest;
use portolan_method::TextMethod;
use portolan_metrics::{FILE, read_metrics};
use portolan_report::{FilledPassage, TextAttention, TextPage, write_text_html};
use portolan_sequences::features;
use portolan_tensor::{Device, Kind, Tensor, no_grad};
use std::path::{Path, PathBuf};

use super::config::TextRunConfig;
use super::corpus::Prepared;
use super::labels::even;
use super::model::Model;
use super::results::Results;
use super::{find, masks, samples};

/// Passages with blanks, and held-out passages with their nearest.
const SHOWN: usize = 4;
/// One token in this many is a blank.
const BLANK_EVERY: usize = 9;
/// Tokens whose attention is shown.
const ATTENDED: usize = 24;
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
    let filled = if masks(config) { filled(prepared, &model)? } else { Vec::new() };
    let metrics = read_metrics(&folder.join(FILE))?;
    let config_toml = std::fs::read_to_string(folder.join("config.toml"))
        .context("the settings of the run cannot be read")?;
    let attention = attention(prepared, method, device)?;
    let page = TextPage {
        title: &format!("{title} on {}", prepared.corpus.name),
        lead: &results.sentence(),
        results: &results.rows(),
        metrics: &metrics,
        filled: &filled,
        samples: &samples::read(folder),
        attention: attention.as_ref(),
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

/// What the tokens at the start of a held-out passage attend to in the last block, on average over
/// the heads.
fn attention(
    prepared: &Prepared,
    method: &dyn TextMethod,
    device: Device,
) -> Result<Option<TextAttention>> {
    let Some(ids) = prepared.test.ids().first() else { return Ok(None) };
    let ids = &ids[..ids.len().min(ATTENDED).min(method.encoder().config().positions as usize)];
    let tokens = ids.iter().map(|&id| prepared.tokens.token(id).unwrap_or_default()).collect();
    let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let ids = Tensor::from_slice(&ids).unsqueeze(0).to_device(device);
    let weights = no_grad(|| method.encoder().last_attention(&ids, None))?.get(0);
    let mean = weights.mean_dim([0i64].as_slice(), false, Kind::Float).to_device(Device::Cpu);
    Ok(Some(TextAttention { tokens, weights: Vec::<Vec<f32>>::try_from(mean)? }))
}

/// Held-out passages, each with the nearest of the text that was trained on by the cosine of their
/// features.
fn neighbors(
    prepared: &Prepared,
    method: &dyn TextMethod,
    device: Device,
) -> Result<Vec<[String; 2]>> {
    let bank = prepared.train.select(&even(prepared.train.len(), SEARCHED));
    let queries = prepared.test.select(&even(prepared.test.len(), SHOWN));
    let of = |passages| features(method.encoder(), passages, device);
    let (_, nearest) = nearest(&of(&bank)?, &of(&queries)?, 1)?;
    let nearest = Vec::<i64>::try_from(nearest.flatten(0, 1))?;
    let pairs = queries.ids().iter().zip(nearest);
    let text = |ids: &[u32]| prepared.tokens.decode(ids);
    pairs.map(|(ids, i)| Ok([text(ids)?, text(&bank.ids()[i as usize])?])).collect()
}
