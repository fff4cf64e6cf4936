//! What a study found: `study.json`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::rule::{Rule, Verdict};
use crate::study::{Run, Study};

/// What a study found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// The study's name.
    pub name: String,
    /// The claim.
    pub claim: String,
    /// Who makes it, and where.
    pub source: String,
    /// What the source measured.
    pub published: String,
    /// Whether it holds here: the worst verdict of the rules.
    pub verdict: Verdict,
    /// What each rule found.
    pub rules: Vec<RuleFindings>,
    /// The seeds, in the order of all values.
    pub seeds: Vec<u64>,
    /// What was measured.
    pub series: Vec<SeriesFindings>,
    /// The runs that diverged, by name: their accuracies count as 0.
    #[serde(default)]
    pub diverged: Vec<String>,
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleFindings {
    /// This part of the claim.
    pub claim: String,
    /// The metric.
    pub metric: String,
    /// The least difference that the rule asks for.
    pub by: f64,
    /// The difference with each seed; the smallest of those of several series.
    pub differences: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// The smallest of them.
    pub low: f64,
    /// The largest of them.
    pub high: f64,
    /// Whether this part of the claim holds.
    pub verdict: Verdict,
}

/// A line of the chart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesFindings {
    /// Its name.
    pub name: String,
    /// Its points.
    pub points: Vec<PointFindings>,
}

/// A point of a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointFindings {
    /// Its name.
    pub name: String,
    /// Each metric with each seed; `None` where a run does not have it.
    pub values: BTreeMap<String, Vec<Option<f64>>>,
}

/// Judges a study by the metrics of its runs, which `value` gives. Whoever knows that runs diverged
/// names them in [`Findings::diverged`].
///
/// # Errors
/// If a run lacks a metric that a rule needs ([`Error::Missing`]).
pub fn judge(study: &Study, value: impl Fn(&Run, &str) -> Option<f64>) -> Result<Findings> {
    let runs = study.runs();
    let mut series: Vec<SeriesFindings> = Vec::new();
    for entry in &study.series {
        let points = study
            .points_of(entry)
            .iter()
            .map(|point| PointFindings { name: point.name.clone(), values: BTreeMap::new() });
        series.push(SeriesFindings { name: entry.name.clone(), points: points.collect() });
    }
    // Runs come seed by seed, so values do too.
    for run in &runs {
        for metric in &study.metrics {
            let values = &mut series[run.series].points[run.point].values;
            values.entry(metric.clone()).or_default().push(value(run, metric));
        }
    }
    let rules = study.rules.iter().map(|rule| apply(study, rule, &runs, &value));
    let rules = rules.collect::<Result<Vec<RuleFindings>>>()?;
    let verdict = rules.iter().map(|rule| rule.verdict).min().unwrap_or(Verdict::DoesNotHold);
    Ok(Findings {
        name: study.name.clone(),
        claim: study.claim.clone(),
        source: study.source.clone(),
        published: study.published.clone(),
        verdict,
        rules,
        seeds: study.seeds.clone(),
        series,
        diverged: Vec::new(),
    })
}

/// What a rule finds in these runs.
fn apply(
    study: &Study,
    rule: &Rule,
    runs: &[Run],
    value: &impl Fn(&Run, &str) -> Option<f64>,
) -> Result<RuleFindings> {
    let of = |series: usize, name: &str, seed: u64| -> Result<f64> {
        let place = study.place(series, name);
        let run =
            runs.iter().find(|run| run.seed == seed && Some((run.series, run.point)) == place);
        let found = run.and_then(|run| value(run, &rule.metric));
        found.ok_or_else(|| Error::Missing {
            run: run.map_or_else(|| name.to_owned(), |run| study.name_of(run)),
            metric: rule.metric.clone(),
        })
    };
    let side = |series, names: &[String], seed, above| -> Result<f64> {
        let values = names.iter().map(|name| of(series, name, seed)).collect::<Result<Vec<_>>>()?;
        Ok(if values.is_empty() { 0.0 } else { rule.choose.of(&values, above) })
    };
    let mut differences = Vec::new();
    for &seed in &study.seeds {
        let mut smallest = f64::INFINITY;
        for series in study.series_of(rule) {
            let (above, below) =
                (side(series, &rule.above, seed, true)?, side(series, &rule.below, seed, false)?);
            let difference = above - below;
            // `min` would ignore what is not a number.
            if difference.is_nan() || difference < smallest {
                smallest = difference;
            }
        }
        differences.push(smallest);
    }
    let fold = |from: f64, pick: fn(f64, f64) -> f64| differences.iter().copied().fold(from, pick);
    Ok(RuleFindings {
        claim: rule.claim.clone(),
        metric: rule.metric.clone(),
        by: rule.by,
        mean: differences.iter().sum::<f64>() / differences.len() as f64,
        low: fold(f64::INFINITY, f64::min),
        high: fold(f64::NEG_INFINITY, f64::max),
        verdict: Verdict::of(&differences, rule.by),
        differences,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn study() -> Study {
        let text = r#"
            title = "T"
            claim = "C"
            source = "S"
            published = "P"
            minutes = 1
            seeds = [0, 1]
            by = "rate"
            metrics = ["knn", "seconds"]
            series = [
                { name = "A", method = "moco", recipe = "shapes" },
                { name = "B", method = "mae", recipe = "shapes" },
            ]
            point = [{ name = "low" }, { name = "high" }]
            [[rule]]
            claim = "high is above low"
            metric = "knn"
            above = ["high"]
            below = ["low"]
            by = 0.01
        "#;
        Study::parse("t", text).unwrap()
    }

    #[test]
    fn a_rule_must_hold_in_every_series_and_with_every_seed() {
        let study = study();
        // Series A gains 0.1; series B gains `of_b` with each seed.
        let judged = |of_b: [f64; 2]| {
            judge(&study, move |run, metric| match (metric, run.point, run.series) {
                ("seconds", ..) => None,
                (_, 0, _) => Some(0.5),
                (_, _, 0) => Some(0.6),
                _ => Some(0.5 + of_b[run.seed as usize]),
            })
            .unwrap()
        };
        let holds = judged([0.05, 0.02]);
        assert_eq!(holds.verdict, Verdict::Holds);
        assert!(
            (holds.rules[0].low - 0.02).abs() < 1e-9 && (holds.rules[0].mean - 0.035).abs() < 1e-9
        );
        assert_eq!(judged([0.05, -0.01]).verdict, Verdict::HoldsWeakly);
        assert_eq!(judged([-0.05, 0.02]).verdict, Verdict::DoesNotHold);
        assert_eq!(judged([f64::NAN, 0.02]).verdict, Verdict::DoesNotHold);
        let b_high = &holds.series[1].points[1];
        assert_eq!(b_high.values["knn"], [Some(0.55), Some(0.52)]);
        assert_eq!(b_high.values["seconds"], [None, None]);
        let text = serde_json::to_string(&holds).unwrap();
        let again: Findings = serde_json::from_str(&text).unwrap();
        assert_eq!((again.verdict, again.seeds), (holds.verdict, holds.seeds));
        assert!(text.contains("\"verdict\":\"holds\""), "{text}");
    }

    #[test]
    fn a_run_without_the_metric_of_a_rule_is_named() {
        let error = judge(&study(), |run, _| (run.series == 0).then_some(0.5)).unwrap_err();
        assert!(error.to_string().starts_with("B, high, seed 0 has no knn"), "{error}");
    }
}
