//! `metrics.jsonl`: what a run logged on the way, one JSON object a line.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

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
    pub fn new(step: u64, epoch: f64, figures: &[(&str, f64)]) -> MetricsRow {
        let figures = figures.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        MetricsRow { step, epoch: Some(epoch), figures }
    }
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
    for line in text.lines() {
        let Ok(object) = serde_json::from_str::<Map<String, Value>>(line) else { continue };
        let Some(step) = object.get("step").and_then(Value::as_u64) else { continue };
        let row = rows.entry(step).or_insert_with(|| MetricsRow { step, ..Default::default() });
        for (name, value) in object {
            let number = if value.is_null() { Some(f64::NAN) } else { value.as_f64() };
            match (name.as_str(), number) {
                ("step", _) | (_, None) => {}
                ("epoch", Some(epoch)) => row.epoch = Some(epoch),
                (_, Some(number)) => {
                    row.figures.insert(name, number);
                }
            }
        }
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
