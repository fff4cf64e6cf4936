//! Methods that learn from text: their settings, their corpus, a run from its plan to its report,
//! and what a trained model does with a sentence.
//!
//! | file | what it does |
//! |---|---|
//! | `config.rs` | settings of a run, from the recipe and the arguments |
//! | `corpus.rs`, `fetch.rs` | the text, its tokens and its sequences |
//! | `build.rs`, `execute.rs` | builds the method, trains |
//! | `samples.rs` | what the method writes at the end of an epoch |
//! | `labels.rs`, `results.rs`, `page.rs` | what was reached, beside baselines; `report.html` |
//! | `hub.rs` | files that let transformers open the run |
//! | `model.rs` | a trained network, to fill and continue text |

mod build;
mod config;
mod corpus;
mod execute;
mod fetch;
mod hub;
mod labels;
mod model;
mod page;
mod results;
mod samples;

use anyhow::{Context, Result};
use portolan::TEXT_METHODS;
use portolan_doctor::Run;
use portolan_interchange::TextFamily;
use portolan_method::TextMethodEntry;
use portolan_metrics::MetricsRow;
use std::path::Path;

pub(crate) use self::execute::{pretrain, reproduce};
pub(crate) use self::labels::{Labeled, Labels};
pub(crate) use self::model::Model;
pub(crate) use self::results::Results;
use crate::args::RunArgs;

/// The text method with this name, if there is one.
pub(crate) fn find(name: &str) -> Option<&'static TextMethodEntry> {
    TEXT_METHODS.iter().copied().find(|method| method.name == name)
}

/// The method of the arguments, if it learns from text: the one given, or that of the run to
/// resume.
pub(crate) fn method_of(args: &RunArgs) -> Option<&'static TextMethodEntry> {
    match (&args.method, &args.resume) {
        (Some(method), _) => find(method),
        (None, Some(run)) => config::stored(run).ok().and_then(|config| find(&config.method)),
        (None, None) => None,
    }
}

/// Whether this is a run of a text method, or a folder of transformers' BERT or GPT-2.
pub(crate) fn is_text(path: &Path) -> bool {
    let named = |file: &str, key: &str| {
        let text = std::fs::read_to_string(path.join(file)).ok()?;
        let value: serde_json::Value = match file {
            "config.json" => serde_json::from_str(&text).ok()?,
            _ => toml::from_str(&text).ok()?,
        };
        value.get(key)?.as_str().map(str::to_owned)
    };
    match (named("config.toml", "method"), named("config.json", "model_type")) {
        (Some(method), _) => find(&method).is_some(),
        (None, Some(model)) => TextFamily::of_model_type(&model).is_some(),
        (None, None) => false,
    }
}

/// The input of the doctor for a run of a text method.
///
/// # Errors
/// If the run's settings cannot be read.
pub(crate) fn doctor_run<'a>(run: &Path, rows: &'a [MetricsRow]) -> Result<Run<'a>> {
    let config = config::stored(run)?;
    let batch_size = config.training.batch_size / config.training.accumulate;
    Ok(Run { method: entry_of(&config.method)?.traits, batch_size, rows })
}

/// Whether a run's method fills blanks, as BERT, instead of predicting the next token.
fn masks(config: &config::TextRunConfig) -> bool {
    find(&config.method).is_some_and(|entry| entry.masks)
}

/// The text method of a run's settings.
fn entry_of(name: &str) -> Result<&'static TextMethodEntry> {
    find(name).with_context(|| format!("{name} does not learn from text"))
}
