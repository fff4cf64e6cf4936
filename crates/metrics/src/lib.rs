//! `metrics.jsonl`, one JSON object per line: the names of the metrics that a run logs, and reading
//! and writing its rows.
//!
//! ```
//! use portolan_metrics::{MetricsRow, names};
//!
//! let row = MetricsRow::new(10, 1.0, &[(names::LOSS, 5.5)]);
//! assert_eq!(row.to_line(), r#"{"epoch":1.0,"loss":5.5,"step":10}"#);
//! assert_eq!(MetricsRow::from_line(&row.to_line()), Some(row));
//! ```
//!
//! The training loop writes the file; the doctor, the report and users' scripts read it. The names
//! are defined here so that all of them spell a metric alike. So are the families of methods, by
//! which metrics are interpreted.

mod error;
mod family;
pub mod names;
mod row;

pub use error::{Error, Result};
pub use family::{Family, MethodTraits};
pub use row::{MetricsRow, read_metrics, until};

/// The file in a run's folder.
pub const FILE: &str = "metrics.jsonl";

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
