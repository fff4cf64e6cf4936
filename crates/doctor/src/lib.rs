//! Finds problems of self-supervised pretraining, such as collapse, in what a run logged, without labels.
//!
//! People ask of a loss that is flat whether that is normal, of an encoder whether it has collapsed, and which checkpoint
//! to take. [`examine`] answers in sentences, each with the signal, its threshold and where that comes from, and with what
//! to change first:
//!
//! ```
//! use portolan_doctor::{Run, examine};
//! use portolan_metrics::MetricsRow;
//!
//! // The outputs of a batch have come to lie on one point.
//! let row = |step, deviation| MetricsRow::new(step, 1.0, &[("loss", -0.99), ("output_deviation", deviation)]);
//! let rows = [row(10, 0.9), row(20, 0.3), row(30, 0.02), row(40, 0.01), row(50, 0.01)];
//! let finding = examine(&Run { method: "simsiam", batch_size: 64, rows: &rows }).expect("it is not well");
//! assert_eq!(finding.name, "collapse");
//! println!("{finding}");
//! ```
//!
//! The rules are a list of plain functions in `rules.rs`, to be read from top to bottom. None looks at an accuracy, since
//! who pretrains without labels has none; how often they are right is measured in docs/results/doctor.md.

mod rules;
mod signals;

pub use rules::{best_epoch, examine, what_is_normal};
pub use signals::Run;

use std::fmt;

/// Something that is wrong with a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What it is called: `collapse`, `learning rate`, ….
    pub name: &'static str,
    /// What was seen: the signal, its value, the threshold and its source.
    pub seen: String,
    /// What to change first.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  first: {}", self.name, self.seen, self.remedy)
    }
}
