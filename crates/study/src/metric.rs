//! The metrics of a run that studies can plot and judge.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What every run writes, for metrics to name beside the measures of the study: its `report.json`.
pub(crate) const REPORT: &str = "report";
/// The last values of the columns of `metrics.jsonl`.
pub(crate) const LOGGED: &str = "logged";

/// A metric of every run on images.
struct Common {
    name: &'static str,
    title: &'static str,
    /// Where it stands in `report.json`.
    at: &'static [&'static str],
    /// Where a number stands that is subtracted.
    minus: &'static [&'static str],
    /// What it is divided by.
    unit: f64,
    /// Whether it is a share, shown as a percentage.
    percent: bool,
}

const KNN: Common = Common {
    name: "knn",
    title: "kNN",
    at: &["knn", "top1"],
    minus: &[],
    unit: 1.0,
    percent: true,
};
const COMMON: [Common; 7] = [
    KNN,
    Common {
        name: "head_knn",
        title: "kNN of the head’s outputs",
        at: &["knn", "head_top1"],
        ..KNN
    },
    Common {
        name: "head_gain",
        title: "kNN before the head minus after it",
        minus: &["knn", "head_top1"],
        ..KNN
    },
    Common {
        name: "untrained_knn",
        title: "kNN before training",
        at: &["knn", "random_init_top1"],
        ..KNN
    },
    Common { name: "linear", title: "linear probe", at: &["linear_probe", "top1"], ..KNN },
    Common { name: "seconds", title: "training (s)", at: &["seconds"], percent: false, ..KNN },
    Common {
        name: "memory",
        title: "peak memory (GB)",
        at: &["peak_memory"],
        unit: 1e9,
        percent: false,
        ..KNN
    },
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
    /// The measure, or `report` for the run's `report.json`.
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

/// The metric `name` that no study defines, in what a run wrote.
pub(crate) fn value(name: &str, written: &BTreeMap<String, Value>) -> Option<f64> {
    let Some(common) = common(name) else {
        return number_at(written.get(LOGGED)?, &[name]);
    };
    let report = written.get(REPORT)?;
    let value = number_at(report, common.at)?;
    let other = if common.minus.is_empty() { 0.0 } else { number_at(report, common.minus)? };
    Some((value - other) / common.unit)
}

fn common(name: &str) -> Option<&'static Common> {
    COMMON.iter().find(|common| common.name == name)
}

fn number_at(written: &Value, path: &[impl AsRef<str>]) -> Option<f64> {
    let mut here = written;
    for step in path.iter().map(AsRef::as_ref) {
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
pub(crate) fn title(name: &str) -> String {
    common(name).map_or_else(|| name.replace('_', " "), |common| common.title.to_owned())
}

/// Whether such a metric is a share.
pub(crate) fn is_share(name: &str) -> bool {
    common(name).map_or_else(|| LOGGED_SHARES.contains(&name), |common| common.percent)
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

    #[test]
    fn metrics_of_every_run_come_from_its_report_and_its_log() {
        let report = serde_json::json!({
            "seconds": 12.5,
            "peak_memory": 2_000_000_000u64,
            "knn": { "top1": 0.75, "head_top1": 0.5 },
        });
        let written = BTreeMap::from([
            (REPORT.to_owned(), report),
            (LOGGED.to_owned(), serde_json::json!({ "uniformity": -1.5 })),
        ]);
        for (name, expected) in [
            ("knn", Some(0.75)),
            ("head_gain", Some(0.25)),
            ("seconds", Some(12.5)),
            ("memory", Some(2.0)),
            ("linear", None),
            ("uniformity", Some(-1.5)),
            ("kn", None),
        ] {
            assert_eq!(value(name, &written), expected, "{name}");
        }
    }
}
