//! Choices of a run that goes on from trained weights.

use anyhow::Result;
use toml::{Table, Value};

use super::Choice;
use crate::config::RunConfig;

/// The phase in which new heads train and the encoder is frozen.
const FROZEN: &str = "settings.freeze_encoder";

/// The trained heads of a run of the same method keep their form. They need no phase of their own,
/// and are trained at the encoder's rate.
pub(super) fn heads(base: &RunConfig, trained: &Table) -> Result<Vec<Choice>> {
    let Some(rate) = base.settings.get("encoder_rate").and_then(Value::as_float) else {
        return Ok(Vec::new()); // a recipe for runs from random weights
    };
    let mut all = Vec::new();
    let why = "as in the run of --init, whose heads are taken";
    for (setting, name) in [("settings.head", "head"), ("settings.ibot_head", "ibot_head")] {
        if let Some(head) = trained.get(name) {
            let text = head.get("dim").map_or_else(String::new, |dim| format!("{dim} prototypes"));
            all.push(Choice::new(setting, head, why)?.with_text(text));
        }
    }
    all.push(Choice::new(FROZEN, 0.0, "the heads are trained")?);
    all.push(Choice::new("settings.freeze_last_layer", 0, "the heads are trained")?);
    all.push(Choice::new("settings.encoder_rate", 1.0, "the heads are trained")?);
    let rate = base.training.learning_rate * rate;
    all.push(Choice::new("training.learning_rate", rate, "the recipe's for the encoder")?);
    Ok(all)
}

/// The length of that phase in a run of `share` times the recipe's epochs. It need not be a whole
/// number of epochs.
pub(super) fn frozen(base: &RunConfig, choices: &[Choice], share: f64) -> Result<Option<Choice>> {
    let own = base.settings.get("freeze_encoder").and_then(Value::as_float).unwrap_or(0.0);
    if own == 0.0 || choices.iter().any(|choice| choice.setting == FROZEN) {
        return Ok(None);
    }
    Choice::new(FROZEN, own * share, "the recipe's share of the run").map(Some)
}
