//! The metrics of a run that studies can plot and judge.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Metrics of every run: name, title, and whether they are shares, shown as percentages. Others are
/// columns of `metrics.jsonl`, or a study defines them ([`Metric`]).
const OF_REPORT: [(&str, &str, bool); 7] = [
    ("knn", "kNN", true),
    ("head_knn", "kNN of the head’s outputs", true),
    ("head_gain", "kNN before the head minus after it", true),
    ("untrained_knn", "kNN before training", true),
    ("linear", "linear probe", true),
    ("seconds", "training (s)", false),
    ("memory", "peak memory (GB)", false),
];

/// Columns of `metrics.jsonl` that are shares.
const LOGGED_SHARES: [&str; 2] = ["contrastive_top1", "hardest_tenth"];

/// A command of `portolan` that measures a finished run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// Its name, for the metrics that it gives.
    pub name: String,
    /// The command and its arguments. `RUN` stands for the folder of the run, and `JSON` for the
    /// file of numbers that the command writes.
    pub command: String,
    /// The series whose runs are measured; all if empty.
    #[serde(default)]
    pub series: Vec<String>,
}

/// A metric that a study defines: a number that one of its measures writes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Its name in tables and charts.
    pub title: String,
    /// The measure.
    pub of: String,
    /// Where the number stands in the file: keys of objects and, for an item of a list, what one of
    /// its texts begins with (an empty text: the first item).
    pub at: Vec<String>,
    /// Where a number stands that is subtracted.
    #[serde(default)]
    pub minus: Vec<String>,
    /// The measure that writes the number to subtract [default: the same].
    #[serde(default)]
    pub minus_of: Option<String>,
    /// Whether it is a share, shown as a percentage.
    #[serde(default)]
    pub percent: bool,
}

impl Metric {
    /// The metric in what measures wrote, by their names; `None` where there is no such number.
    #[must_use]
    pub fn value(&self, written: &BTreeMap<String, Value>) -> Option<f64> {
        let value = number_at(written.get(&self.of)?, &self.at)?;
        if self.minus.is_empty() {
            return Some(value);
        }
        let other = written.get(self.minus_of.as_ref().unwrap_or(&self.of))?;
        Some(value - number_at(other, &self.minus)?)
    }

    /// The measures that it needs.
    pub(crate) fn measures(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.of).chain(&self.minus_of)
    }
}

fn number_at(written: &Value, path: &[String]) -> Option<f64> {
    let mut here = written;
    for step in path {
        here = match here {
            Value::Array(items) => items.iter().find(|item| has_text(item, step))?,
            other => other.get(step)?,
        };
    }
    here.as_f64()
}

/// Whether a text of this object begins with `start`.
fn has_text(item: &Value, start: &str) -> bool {
    let begins = |value: &Value| value.as_str().is_some_and(|text| text.starts_with(start));
    item.as_object().is_some_and(|fields| fields.values().any(begins))
}

/// The title of a metric that no study defines.
pub(crate) fn title(metric: &str) -> String {
    let known = OF_REPORT.iter().find(|(name, _, _)| *name == metric);
    known.map_or_else(|| metric.replace('_', " "), |(_, title, _)| (*title).to_owned())
}

/// Whether such a metric is a share.
pub(crate) fn is_share(metric: &str) -> bool {
    OF_REPORT.iter().any(|(name, _, share)| *name == metric && *share)
        || LOGGED_SHARES.contains(&metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_keys_and_by_the_start_of_texts() {
        let written = serde_json::json!([
            { "protocol": "linear probe, L-BFGS", "top1": 0.5 },
            { "protocol": "fine-tuned, 3 epochs", "top1": 0.75 },
        ]);
        let written = BTreeMap::from([
            ("a".to_owned(), written),
            ("b".to_owned(), serde_json::json!({ "mean": { "iou": 0.125 } })),
        ]);
        let path = |steps: &[&str]| steps.iter().map(|&step| step.to_owned()).collect();
        let metric = |at: &[&str], minus: &[&str]| Metric {
            title: String::new(),
            of: "a".to_owned(),
            at: path(at),
            minus: path(minus),
            minus_of: None,
            percent: true,
        };
        let of = |at: &[&str], minus: &[&str]| metric(at, minus).value(&written);
        let minus_of = Some("b".to_owned());
        let across = Metric { minus_of, ..metric(&["fine-tuned", "top1"], &["mean", "iou"]) };
        assert_eq!(across.value(&written), Some(0.625));
        assert_eq!(of(&["linear probe", "top1"], &[]), Some(0.5));
        assert_eq!(of(&["fine-tuned", "top1"], &["linear", "top1"]), Some(0.25));
        assert_eq!(of(&["from scratch", "top1"], &[]), None);
        assert_eq!(of(&["fine-tuned", "top1"], &["linear", "top5"]), None);
    }
}
