//! `metrics.jsonl`, one JSON object a line: the names of what a run logs, and reading and writing its rows.
//!
//! ```
//! use portolan_metrics::{MetricsRow, names};
//!
//! let row = MetricsRow::new(10, 1.0, &[(names::LOSS, 5.5)]);
//! assert_eq!(row.to_line(), r#"{"epoch":1.0,"loss":5.5,"step":10}"#);
//! assert_eq!(MetricsRow::from_line(&row.to_line()), Some(row));
//! ```
//!
//! The training loop writes the file; the doctor, the report and people's own scripts read it. The names are here, so that
//! none of them spells one differently.

mod family;
pub mod names;
mod row;

pub use family::Family;
pub use row::{MetricsRow, read_metrics, until};

/// The file in a run's folder.
pub const FILE: &str = "metrics.jsonl";
