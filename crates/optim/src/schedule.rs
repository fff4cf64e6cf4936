//! Schedules of the learning rate and of the momentum of an EMA.
//!
//! The functions return the value at one `position` of `total`. Positions are steps or epochs, as
//! the caller counts. [`Schedule`] is the setting in a recipe.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

use crate::config::not_negative;
use crate::{Error, Result};

/// A linear warm-up, then a half cosine from `base` towards `last`, as in DINO's code.
///
/// Over the first `warmup` of `total` positions the value rises from `start` to `base`, both
/// included. Over the other n it is last + (base − last) · ½(1 + cos(π i / n)) at i = 0 … n−1. From
/// `total` on it is `last`. Without warm-up this is the cosine of MoCo v2 and SimSiam (Loshchilov,
/// Hutter, 2016, arXiv:1608.03983, without restarts).
pub fn cosine_with_warmup(
    position: u64,
    total: u64,
    warmup: u64,
    start: f64,
    base: f64,
    last: f64,
) -> f64 {
    if position >= total {
        last
    } else if position < warmup {
        let intervals = warmup.saturating_sub(1).max(1);
        start + (base - start) * position as f64 / intervals as f64
    } else {
        half_cosine(base, last, (position - warmup) as f64 / (total - warmup) as f64)
    }
}

/// A half cosine from `base` to `last`, which it reaches at the last of `total` positions: the
/// momentum of BYOL's target network (Grill et al., 2020, arXiv:2006.07733, section 3.2), counted
/// as in lightly.
pub fn momentum_cosine(position: u64, total: u64, base: f64, last: f64) -> f64 {
    match total {
        0 | 1 => last,
        _ => half_cosine(base, last, position.min(total - 1) as f64 / (total - 1) as f64),
    }
}

/// A half cosine from `base` at 0 to `last` at 1.
fn half_cosine(base: f64, last: f64, share: f64) -> f64 {
    last + (base - last) * 0.5 * (1.0 + (PI * share).cos())
}

/// How often a schedule's value changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// At every step of the optimizer.
    #[default]
    Step,
    /// At the start of every epoch, as MoCo's code does.
    Epoch,
}

/// A recipe's schedule of the learning rate: `{ kind = "cosine", warmup_epochs = 10 }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// A constant rate.
    Constant,
    /// [`cosine_with_warmup`]. The rates `start` and `last` are not scaled with the batch.
    Cosine {
        /// Epochs of linear warm-up; 0 by default. With `per = "epoch"` it must be a whole number.
        #[serde(default)]
        warmup_epochs: f64,
        /// The rate at the first step of the warm-up; 0 by default.
        #[serde(default)]
        start: f64,
        /// The rate at the end of the cosine; 0 by default.
        #[serde(default)]
        last: f64,
        /// Whether the rate changes at every step (the default) or every epoch.
        #[serde(default)]
        per: Per,
    },
    /// Times `factor` from each of these epochs on: MoCo v1 at 120 and 160 of 200, by 0.1.
    Drops {
        /// The epochs, counted from 0, at which the rate drops.
        epochs: Vec<u64>,
        /// The factor of each drop.
        factor: f64,
    },
}

/// A cosine to zero without warm-up, at every step.
impl Default for Schedule {
    fn default() -> Self {
        Schedule::Cosine { warmup_epochs: 0.0, start: 0.0, last: 0.0, per: Per::Step }
    }
}

impl Schedule {
    /// The rate at `step` (counted from 0) of a run of `epochs` epochs of `steps_per_epoch` steps,
    /// with the base rate `base`.
    pub fn at(&self, base: f64, step: u64, steps_per_epoch: u64, epochs: u64) -> f64 {
        let epoch = step / steps_per_epoch.max(1);
        match *self {
            Schedule::Constant => base,
            Schedule::Cosine { warmup_epochs, start, last, per } => {
                let (position, in_epoch) = match per {
                    Per::Step => (step, steps_per_epoch),
                    Per::Epoch => (epoch, 1),
                };
                let warmup = (warmup_epochs * in_epoch as f64).round() as u64;
                cosine_with_warmup(position, epochs * in_epoch, warmup, start, base, last)
            }
            Schedule::Drops { ref epochs, factor } => {
                let dropped = epochs.iter().filter(|&&at| epoch >= at).count();
                base * factor.powi(dropped as i32)
            }
        }
    }

    /// Checks that a run of `epochs` epochs can follow the schedule.
    ///
    /// # Errors
    /// When the warm-up is not shorter than the run, does not end with an epoch where the rate
    /// changes once an epoch, or a rate or factor is negative.
    pub fn validate(&self, epochs: u64) -> Result<()> {
        let warmup = |message| Error::Setting { name: "warmup_epochs", message };
        match *self {
            Schedule::Constant => {}
            Schedule::Cosine { warmup_epochs, start, last, per } => {
                not_negative("warmup_epochs", warmup_epochs)?;
                if warmup_epochs > 0.0 && warmup_epochs >= epochs as f64 {
                    return Err(warmup(format!(
                        "`warmup_epochs` is {warmup_epochs}, but the run has only {epochs} \
                         epoch(s): shorten the warm-up or train longer"
                    )));
                }
                if per == Per::Epoch && warmup_epochs.fract() != 0.0 {
                    return Err(warmup(format!(
                        "`warmup_epochs` is {warmup_epochs}, but the rate changes once an epoch: \
                         choose a whole number, or per = \"step\""
                    )));
                }
                not_negative("start", start)?;
                not_negative("last", last)?;
            }
            Schedule::Drops { factor, .. } => not_negative("factor", factor)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mocos_cosine_changes_once_an_epoch() {
        let schedule: Schedule = toml::from_str("kind = 'cosine'\nper = 'epoch'").unwrap();
        let at = |step| schedule.at(0.06, step, 10, 200);
        assert_eq!(at(0), 0.06);
        assert_eq!(at(9), at(0));
        // MoCo's adjust_learning_rate: lr · ½(1 + cos(π epoch / epochs)).
        assert_eq!(at(10), 0.06 * 0.5 * (1.0 + (PI * 1.0 / 200.0).cos()));
        assert!((at(100 * 10) - 0.03).abs() < 1e-12);
    }

    #[test]
    fn a_cosine_by_step_warms_up_over_whole_epochs() {
        let schedule: Schedule =
            toml::from_str("kind = 'cosine'\nwarmup_epochs = 2\nlast = 0.5").unwrap();
        let rates: Vec<f64> = (0..40).map(|step| schedule.at(4.0, step, 4, 10)).collect();
        assert_eq!((rates[0], rates[7], rates[8]), (0.0, 4.0, 4.0));
        assert!(rates[8..].windows(2).all(|pair| pair[1] < pair[0]));
        assert!((rates[39] - 0.5).abs() < 0.01);
        assert_eq!(schedule.at(4.0, 40, 4, 10), 0.5, "past the end");
    }

    #[test]
    fn a_warmup_may_end_within_an_epoch() {
        let schedule: Schedule = toml::from_str("kind = 'cosine'\nwarmup_epochs = 0.3").unwrap();
        // 3 of 10 steps, from 0 to the base rate, then a half cosine over the other 7.
        let rates: Vec<f64> = (0..10).map(|step| schedule.at(4.0, step, 10, 1)).collect();
        assert_eq!(rates[..4], [0.0, 2.0, 4.0, 4.0]);
        assert!((rates[4] - 2.0 * (1.0 + (PI / 7.0).cos())).abs() < 1e-12);
        assert!(schedule.validate(1).is_ok());
        let by_epoch = "kind = 'cosine'\nwarmup_epochs = 0.3\nper = 'epoch'";
        let schedule: Schedule = toml::from_str(by_epoch).unwrap();
        assert!(schedule.validate(1).unwrap_err().to_string().contains("whole number"));
    }

    #[test]
    fn moco_v1_drops_twice() {
        let schedule = Schedule::Drops { epochs: vec![120, 160], factor: 0.5 };
        let at = |epoch: u64| schedule.at(8.0, epoch * 3, 3, 200);
        assert_eq!([at(0), at(119), at(120), at(159), at(160)], [8.0, 8.0, 4.0, 4.0, 2.0]);
    }

    #[test]
    fn the_momentum_ends_at_its_last_value() {
        assert_eq!(momentum_cosine(0, 100, 0.996, 1.0), 0.996);
        assert_eq!(momentum_cosine(99, 100, 0.996, 1.0), 1.0);
        assert_eq!(momentum_cosine(500, 100, 0.996, 1.0), 1.0);
        assert_eq!(momentum_cosine(0, 1, 0.996, 1.0), 1.0);
    }

    #[test]
    fn a_warmup_longer_than_the_run_is_refused() {
        let schedule: Schedule = toml::from_str("kind = 'cosine'\nwarmup_epochs = 10").unwrap();
        assert!(schedule.validate(11).is_ok());
        assert!(schedule.validate(10).unwrap_err().to_string().contains("warmup_epochs"));
        assert!(Schedule::default().validate(0).is_ok());
    }
}
