//! Rows of `metrics.jsonl`.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// All metrics logged at one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsRow {
    /// Optimizer steps done.
    pub step: u64,
    /// Epochs done, if the row has them.
    pub epoch: Option<f64>,
    /// All other numbers by name (`loss`, `lr`, `images_per_second`, `knn_top1`, …). JSON has no
    /// NaN: `null`, which JSON writers write for it, is read as NaN.
    pub metrics: BTreeMap<String, f64>,
}

impl MetricsRow {
    /// A row from its metrics: `MetricsRow::new(10, 1.0, &[("loss", 5.2)])`.
    #[must_use]
    pub fn new(step: u64, epoch: f64, metrics: &[(&str, f64)]) -> MetricsRow {
        let metrics = metrics.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        MetricsRow { step, epoch: Some(epoch), metrics }
    }

    /// Adds a metric, and replaces one of the same name.
    pub fn insert(&mut self, name: &str, value: f64) {
        self.metrics.insert(name.to_owned(), value);
    }

    /// The row as a line of the file, without the newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut object = Map::new();
        object.insert("step".to_owned(), json!(self.step));
        if let Some(epoch) = self.epoch {
            object.insert("epoch".to_owned(), json!(epoch));
        }
        // NaN and infinities become null.
        object.extend(self.metrics.iter().map(|(name, value)| (name.clone(), json!(value))));
        Value::Object(object).to_string()
    }

    /// The row in a line of the file; `None` for a line that was cut short. Ignores text values.
    #[must_use]
    pub fn from_line(line: &str) -> Option<MetricsRow> {
        let object = serde_json::from_str::<Map<String, Value>>(line).ok()?;
        let mut row = MetricsRow { step: object.get("step")?.as_u64()?, ..Default::default() };
        for (name, value) in object {
            let number = if value.is_null() { Some(f64::NAN) } else { value.as_f64() };
            match (name.as_str(), number) {
                ("step", _) | (_, None) => {}
                ("epoch", Some(epoch)) => row.epoch = Some(epoch),
                (_, Some(number)) => row.insert(&name, number),
            }
        }
        Some(row)
    }
}

/// The lines of a file's `text` up to `step`, which a run keeps that resumes there. Drops a line
/// that was cut short.
#[must_use]
pub fn until(text: &str, step: u64) -> String {
    let kept = |line: &&str| MetricsRow::from_line(line).is_some_and(|row| row.step <= step);
    text.lines().filter(kept).map(|line| format!("{line}\n")).collect()
}

/// Reads `metrics.jsonl`: one row per step, in order.
///
/// A killed run may leave half a line, which is ignored. A resumed run repeats the steps since its
/// checkpoint, whose later values count. Text values are ignored.
///
/// # Errors
/// When the file cannot be read, or has lines and none of them is a row.
pub fn read_metrics(path: &Path) -> Result<Vec<MetricsRow>> {
    let text =
        fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let rows = parse(&text);
    if rows.is_empty() && !text.trim().is_empty() {
        return Err(Error::NoMetrics { path: path.to_owned() });
    }
    Ok(rows)
}

fn parse(text: &str) -> Vec<MetricsRow> {
    let mut rows: BTreeMap<u64, MetricsRow> = BTreeMap::new();
    for found in text.lines().filter_map(MetricsRow::from_line) {
        let new = || MetricsRow { step: found.step, ..Default::default() };
        let row = rows.entry(found.step).or_insert_with(new);
        row.epoch = found.epoch.or(row.epoch);
        row.metrics.extend(found.metrics);
    }
    rows.into_values().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_step_are_one_row_and_unknown_keys_are_kept() {
        let rows = parse(concat!(
            "{\"step\": 10, \"epoch\": 1, \"loss\": 5.5, \"lr\": 0.06, \"queue\": 3, ",
            "\"phase\": \"warm\"}\n",
            "{\"step\": 10, \"epoch\": 1, \"knn_top1\": 0.5}\n",
        ));
        let expected = MetricsRow::new(
            10,
            1.0,
            &[("loss", 5.5), ("lr", 0.06), ("queue", 3.0), ("knn_top1", 0.5)],
        );
        assert_eq!(rows, [expected]);
    }

    #[test]
    fn a_resumed_run_counts_once_and_half_a_line_is_ignored() {
        let rows = parse(concat!(
            "{\"step\": 1, \"loss\": 3.0}\n{\"step\": 2, \"loss\": 9.0}\n{\"step\": 3, \"lo",
            "\n{\"step\": 2, \"loss\": 2.0}\n",
        ));
        let losses: Vec<_> = rows.iter().map(|row| (row.step, row.metrics["loss"])).collect();
        assert_eq!(losses, [(1, 3.0), (2, 2.0)]);
    }

    #[test]
    fn null_is_nan() {
        assert!(parse("{\"step\": 1, \"loss\": null}")[0].metrics["loss"].is_nan());
    }

    #[test]
    fn an_empty_file_has_no_rows_and_another_kind_of_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, "").unwrap();
        assert!(read_metrics(&path).unwrap().is_empty());
        fs::write(&path, "epoch,loss\n1,2\n").unwrap();
        assert!(read_metrics(&path).unwrap_err().to_string().contains("metrics.jsonl"));
    }
}
