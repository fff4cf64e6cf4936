//! Methods that learn from text: their settings, their corpus, a run from its plan to its report,
//! and what a trained model does with a sentence.
//!
//! | file | what it does |
//! |---|---|
//! | `config.rs` | settings of a run, from the recipe and the arguments |
//! | `corpus.rs`, `fetch.rs` | the text, its tokens and its sequences |
//! | `execute.rs` | trains |
//! | `results.rs`, `page.rs` | what was reached, beside baselines; `report.html` |
//! | `hub.rs` | files that let transformers open the run |
//! | `model.rs` | a trained run, to fill and continue text |

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
use std::path::Path;

pub(crate) use self::execute::{pretrain, reproduce};
pub(crate) use self::model::Model;

/// The text method with this name, if there is one.
pub(crate) fn find(name: &str) -> Option<&'static TextMethodEntry> {
    TEXT_METHODS.iter().copied().find(|method| method.name == name)
}

/// The text method of the run in this folder, if it is one.
pub(crate) fn method_of(run: &Path) -> Option<&'static TextMethodEntry> {
    config::stored(run).ok().and_then(|config| find(&config.method))
}

/// The text method of a run's settings.
fn entry_of(name: &str) -> Result<&'static TextMethodEntry> {
    find(name).with_context(|| format!("{name} does not learn from text"))
}
