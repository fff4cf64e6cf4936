//! Rows of `metrics.jsonl`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

/// All figures logged at one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsRow {
    /// Optimizer steps done.
    pub step: u64,
    /// Epochs done, where the row says so.
    pub epoch: Option<f64>,
    /// Every other number by its name (`loss`, `lr`, `images_per_second`, `knn_top1`, …). JSON has no
    /// NaN: a `null`, which is what JSON writers make of one, is read as NaN.
    pub figures: BTreeMap<String, f64>,
}

impl MetricsRow {
    /// A row from its figures: `MetricsRow::new(10, 1.0, &[("loss", 5.2)])`.
    #[must_use]
    pub fn new(step: u64, epoch: f64, figures: &[(&str, f64)]) -> MetricsRow {
        let figures = figures.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        MetricsRow { step, epoch: Some(epoch), figures }
    }

    /// Adds a figure, in the place of one with the same name.
    pub fn insert(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }

    /// The row as a line of the file, without the line's end.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut object = Map::new();
        object.insert("step".to_owned(), json!(self.step));
        if let Some(epoch) = self.epoch {
            object.insert("epoch".to_owned(), json!(epoch));
        }
        // What is no number becomes null.
        object.extend(self.figures.iter().map(|(name, value)| (name.clone(), json!(value))));
        Value::Object(object).to_string()
    }

    /// The row in a line of the file; none in a line that was cut short. Text values are passed over.
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

/// The lines of a file's `text` up to `step`: what a run keeps that is resumed there, and writes the rest anew. A line that
/// was cut short is left out.
#[must_use]
pub fn until(text: &str, step: u64) -> String {
    let kept = |line: &&str| MetricsRow::from_line(line).is_some_and(|row| row.step <= step);
    text.lines().filter(kept).map(|line| format!("{line}\n")).collect()
}

/// Reads `metrics.jsonl`: one row a step, by step.
///
/// A run that was killed may leave half a line, which is passed over, and a resumed one repeats
/// the steps since its checkpoint, whose later figures count. Text values are passed over too.
///
/// # Errors
/// Where the file cannot be read, or has lines and none of them is a row.
pub fn read_metrics(path: &Path) -> Result<Vec<MetricsRow>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let rows = parse(&text);
    ensure!(
        !rows.is_empty() || text.trim().is_empty(),
        "{} holds no metrics: expected a JSON object with a \"step\" on every line",
        path.display()
    );
    Ok(rows)
}

fn parse(text: &str) -> Vec<MetricsRow> {
    let mut rows: BTreeMap<u64, MetricsRow> = BTreeMap::new();
    for found in text.lines().filter_map(MetricsRow::from_line) {
        let new = || MetricsRow { step: found.step, ..Default::default() };
        let row = rows.entry(found.step).or_insert_with(new);
        row.epoch = found.epoch.or(row.epoch);
        row.figures.extend(found.figures);
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
            "{\"step\": 10, \"epoch\": 1, \"loss\": 5.5, \"lr\": 0.06, \"queue\": 3, \"phase\": \"warm\"}\n",
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
    fn a_resumed_run_counts_once_and_half_a_line_is_passed_over() {
        let rows = parse(concat!(
            "{\"step\": 1, \"loss\": 3.0}\n{\"step\": 2, \"loss\": 9.0}\n{\"step\": 3, \"lo",
            "\n{\"step\": 2, \"loss\": 2.0}\n",
        ));
        let losses: Vec<_> = rows.iter().map(|row| (row.step, row.figures["loss"])).collect();
        assert_eq!(losses, [(1, 3.0), (2, 2.0)]);
    }

    #[test]
    fn null_is_nan() {
        assert!(parse("{\"step\": 1, \"loss\": null}")[0].figures["loss"].is_nan());
    }

    #[test]
    fn an_empty_file_has_no_rows_and_another_kind_of_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, "").unwrap();
        assert!(read_metrics(&path).unwrap().is_empty());
        fs::write(&path, "epoch,loss\n1,2\n").unwrap();
        assert!(read_metrics(&path).unwrap_err().to_string().contains("metrics.jsonl"));
    }
}
