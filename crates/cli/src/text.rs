//! Methods that learn from text: their settings, their corpus, a run from its plan to its report,
//! and what a trained model does with a sentence.
//!
//! | file | what it does |
//! |---|---|
//! | `config.rs` | settings of a run, from the recipe and the arguments |
//! | `corpus.rs`, `fetch.rs` | the text, its tokens and its sequences |
//! | `build.rs`, `execute.rs` | builds the method, trains |
//! | `results.rs`, `page.rs` | what was reached, beside baselines; `report.html` |
//! | `hub.rs` | files that let transformers open the run |
//! | `model.rs` | a trained run, to fill and continue text |

mod build;
mod config;
mod corpus;
mod execute;
mod fetch;
mod hub;
mod model;
mod page;
mod results;

use anyhow::{Context, Result};
use portolan::TEXT_METHODS;
use portolan_method::TextMethodEntry;

pub(crate) use self::execute::{pretrain, reproduce};
pub(crate) use self::model::Model;
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

/// Whether a run's method fills blanks, as BERT, instead of predicting the next token.
fn masks(config: &config::TextRunConfig) -> bool {
    find(&config.method).is_some_and(|entry| entry.masks)
}

/// The text method of a run's settings.
fn entry_of(name: &str) -> Result<&'static TextMethodEntry> {
    find(name).with_context(|| format!("{name} does not learn from text"))
}
