//! Finds problems of self-supervised pretraining, such as collapse, in the metrics that a run
//! logged, without labels.
//!
//! Is a flat loss normal? Has the encoder collapsed? Which checkpoint is best? [`examine`] answers
//! in sentences, each with the metric, its threshold and the source of the threshold, and with what
//! to change first:
//!
//! ```
//! use portolan_doctor::{Problem, Run, examine};
//! use portolan_metrics::{Family, MethodTraits, MetricsRow, names};
//!
//! // The outputs of a batch collapse to one point.
//! let row = |step, deviation| {
//!     MetricsRow::new(step, 1.0, &[(names::LOSS, -0.99), (names::OUTPUT_DEVIATION, deviation)])
//! };
//! let rows = [row(10, 0.9), row(20, 0.3), row(30, 0.02), row(40, 0.01), row(50, 0.01)];
//! let run = Run {
//!     method: MethodTraits::new(Family::SelfDistillation),
//!     batch_size: 64,
//!     rows: &rows,
//! };
//! let finding = examine(&run).expect("a problem");
//! assert_eq!(finding.problem, Problem::Collapse);
//! println!("{finding}");
//! ```
//!
//! The rules are plain functions in `rules.rs`, which lists them in the order in which they apply,
//! and in `tokens.rs`. They know families of methods and what a run logs, and no method by name, so
//! that they work for new methods. None uses an accuracy, because pretraining without labels has
//! none. docs/results/doctor.md measures how often the rules are right.

mod advice;
mod finding;
mod rules;
mod run;
mod tokens;

pub use advice::{best_epoch, normal_loss};
pub use finding::{Finding, Problem};
pub use rules::examine;
pub use run::Run;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
