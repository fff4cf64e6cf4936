//! A study: a claim, the runs that test it, and its rules.

mod validate;

use serde::Deserialize;
use std::collections::BTreeMap;
use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::metric::{self, Measure, Metric};
use crate::rule::Rule;

/// A claim as an experiment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// The name on the command line.
    #[serde(skip)]
    pub name: String,
    /// The file's text, for the page.
    #[serde(skip)]
    pub text: String,
    /// A heading.
    pub title: String,
    /// The claim.
    pub claim: String,
    /// Who makes it, and where.
    pub source: String,
    /// What the source measured.
    pub published: String,
    /// About what it costs: minutes on one core of an AMD EPYC with AVX-512, with all seeds.
    pub minutes: u64,
    /// What a reader should know about the result, written after the runs.
    #[serde(default)]
    pub remark: String,
    /// The seeds of every run.
    pub seeds: Vec<u64>,
    /// What the points differ in.
    pub by: String,
    /// The metrics to plot, the most important one first.
    pub metrics: Vec<String>,
    /// Two metrics whose plane shows every run, colored by the first of `metrics`.
    #[serde(default)]
    pub plane: Option<[String; 2]>,
    /// Points whose runs show their correlation matrix in the course of training, with the first
    /// seed.
    #[serde(default)]
    pub correlation: Vec<String>,
    /// What measures each finished run, in this order.
    #[serde(default, rename = "measure")]
    pub measures: Vec<Measure>,
    /// The metrics that these measures give.
    #[serde(default, rename = "metric")]
    pub defined: BTreeMap<String, Metric>,
    /// Settings of all runs, over those of the recipe.
    #[serde(default)]
    pub set: Table,
    /// The lines of the chart.
    pub series: Vec<Series>,
    /// The points of every series that has none of its own.
    #[serde(default, rename = "point")]
    pub points: Vec<Point>,
    /// The rules. The claim holds if all do.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
}

/// A line of the chart: a method, or a variant of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// The method, as the command line names it.
    pub method: String,
    /// Its recipe. A point may have another: `set.recipe`.
    pub recipe: String,
    /// Settings of its runs.
    #[serde(default)]
    pub set: Table,
    /// Its points, if they differ from those of the study.
    #[serde(default, rename = "point")]
    pub points: Vec<Point>,
}

/// A value of what is varied.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Its name; a number if all are.
    pub name: String,
    /// Settings of its runs.
    #[serde(default)]
    pub set: Table,
}

/// A training run of a study.
#[derive(Clone, Debug)]
pub struct Run {
    /// The index of its series.
    pub series: usize,
    /// The index of its point in the series.
    pub point: usize,
    /// Its seed.
    pub seed: u64,
    /// Its method.
    pub method: String,
    /// Its settings, with the name of its recipe, as a file for `--config`.
    pub settings: Table,
}

impl Study {
    /// The study in the text of a TOML file.
    ///
    /// # Errors
    /// If it is not a study ([`Error::Parse`]), or contradicts itself ([`Error::Invalid`]).
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let read: Self = toml::from_str(text).map_err(|error| Error::Parse {
            name: name.to_owned(),
            reason: error.to_string().trim().replace('\n', " "),
        })?;
        let study = Study { name: name.to_owned(), text: text.to_owned(), ..read };
        study.validate().map_err(|reason| Error::Invalid { name: name.to_owned(), reason })?;
        Ok(study)
    }

    /// The title of a metric for tables and charts.
    #[must_use]
    pub fn title(&self, metric: &str) -> String {
        let defined = self.defined.get(metric).map(|metric| metric.title.clone());
        defined.unwrap_or_else(|| metric::title(metric))
    }

    /// Whether a metric is a share, shown as a percentage.
    #[must_use]
    pub fn is_share(&self, metric: &str) -> bool {
        let defined = self.defined.get(metric).map(|metric| metric.percent);
        defined.unwrap_or_else(|| metric::is_share(metric))
    }

    /// A metric of a run in what was written of it: its `report`, the last values `logged`, and
    /// what measures wrote, by their names. `None` where there is no such number.
    #[must_use]
    pub fn value(
        &self,
        metric: &str,
        written: &BTreeMap<String, serde_json::Value>,
    ) -> Option<f64> {
        match self.defined.get(metric) {
            Some(defined) => defined.value(written),
            None => metric::value(metric, written),
        }
    }

    /// The points of a series.
    #[must_use]
    pub fn points_of<'a>(&'a self, series: &'a Series) -> &'a [Point] {
        if series.points.is_empty() { &self.points } else { &series.points }
    }

    /// The metrics of a run that rules compare.
    pub fn compared(&self, run: &Run) -> impl Iterator<Item = &str> {
        let here = Some((run.series, run.point));
        let names = move |rule: &Rule, series| {
            let mut names = rule.above.iter().chain(&rule.below);
            names.any(|name| self.place(series, name) == here)
        };
        let of_run =
            move |rule: &&Rule| self.series_of(rule).into_iter().any(|series| names(rule, series));
        self.rules.iter().filter(of_run).map(|rule| &*rule.metric)
    }

    /// The measures of a run.
    pub fn measures_of(&self, run: &Run) -> impl Iterator<Item = &Measure> {
        let series = &self.series[run.series].name;
        self.measures
            .iter()
            .filter(move |measure| measure.series.is_empty() || measure.series.contains(series))
    }

    /// The name of a run's point.
    #[must_use]
    pub fn name_of_point(&self, run: &Run) -> &str {
        self.points_of(&self.series[run.series]).get(run.point).map_or("", |point| &point.name)
    }

    /// Whether the correlation matrix of this run is shown.
    #[must_use]
    pub fn shows_correlation(&self, run: &Run) -> bool {
        let place = Some((run.series, run.point));
        self.seeds.first() == Some(&run.seed)
            && self.correlation.iter().any(|name| self.place(0, name) == place)
    }

    /// A run as people name it: `SimCLR, 0.1, seed 0`.
    #[must_use]
    pub fn name_of(&self, run: &Run) -> String {
        format!("{}, {}, seed {}", self.series[run.series].name, self.name_of_point(run), run.seed)
    }

    /// All runs: those of the first seed come first.
    #[must_use]
    pub fn runs(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        for &seed in &self.seeds {
            for (series, entry) in self.series.iter().enumerate() {
                for (point, of_point) in self.points_of(entry).iter().enumerate() {
                    let mut settings = self.set.clone();
                    merge(&mut settings, &entry.set);
                    merge(&mut settings, &of_point.set);
                    settings.entry("recipe").or_insert_with(|| Value::String(entry.recipe.clone()));
                    runs.push(Run { series, point, seed, method: entry.method.clone(), settings });
                }
            }
        }
        runs
    }

    /// The indices of the series that a rule applies to. A rule that names the series of all its
    /// points applies once.
    pub(crate) fn series_of(&self, rule: &Rule) -> Vec<usize> {
        if rule.above.iter().chain(&rule.below).all(|name| name.contains('/')) {
            return vec![0];
        }
        if rule.series.is_empty() {
            return (0..self.series.len()).collect();
        }
        rule.series.iter().filter_map(|name| self.series_named(name)).collect()
    }

    fn series_named(&self, name: &str) -> Option<usize> {
        self.series.iter().position(|series| series.name == name)
    }

    /// The series and the point that a rule means by `name` in this series.
    pub(crate) fn place(&self, series: usize, name: &str) -> Option<(usize, usize)> {
        let (series, name) = match name.split_once('/') {
            Some((series, point)) => (self.series_named(series)?, point),
            None => (series, name),
        };
        let points = self.points_of(&self.series[series]);
        Some((series, points.iter().position(|point| point.name == name)?))
    }
}

/// Puts the settings of `over` over those of `base`.
fn merge(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            _ => drop(base.insert(key.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = r#"
        title = "T"
        claim = "C"
        source = "S"
        published = "P"
        minutes = 1
        seeds = [0, 3]
        by = "rate"
        metrics = ["knn"]
        set.training.epochs = 2
        set.data.limit = 100

        [[series]]
        name = "A"
        method = "moco"
        recipe = "shapes"

        [[series]]
        name = "B"
        method = "mae"
        recipe = "shapes"
        set.training.epochs = 3

        [[series.point]]
        name = "own"

        [[point]]
        name = "x"
        set.training.batch_size = 16

        [[point]]
        name = "y"

        [[rule]]
        claim = "x is above own"
        metric = "knn"
        above = ["A/x"]
        below = ["B/own"]
    "#;

    #[test]
    fn settings_of_study_series_and_point_are_put_over_each_other() {
        let study = Study::parse("t", TEXT).unwrap();
        let runs = study.runs();
        let names: Vec<String> = runs.iter().map(|run| study.name_of(run)).collect();
        assert_eq!(names[..3], ["A, x, seed 0", "A, y, seed 0", "B, own, seed 0"]);
        assert_eq!(runs.len(), 6);
        let training = runs[0].settings["training"].as_table().unwrap();
        assert_eq!((training["epochs"].as_integer(), training.len()), (Some(2), 2));
        assert_eq!(runs[2].settings["training"]["epochs"].as_integer(), Some(3));
        assert_eq!(runs[2].settings["recipe"].as_str(), Some("shapes"));
    }

    #[test]
    fn a_study_that_contradicts_itself_is_refused_by_name() {
        let refused = |from: &str, to: &str| {
            Study::parse("mine.toml", &TEXT.replacen(from, to, 1)).unwrap_err().to_string()
        };
        for (from, to, says) in [
            ("A/x", "A/z", "no point `A/z`"),
            ("\"own\"", "\"own/er\"", "names have no /"),
            ("name = \"y\"", "name = \"x\"", "two points named `x`"),
            ("metric = \"knn\"", "metric = \"linear\"", "judges linear"),
            ("above = [\"A/x\"]", "above = []", "without `above`"),
            ("seeds = [0, 3]", "seeds = []", "needs a series, a seed and a rule"),
            ("minutes = 1", "minuts = 1", "minuts"),
            ("minutes = 1", "minutes = 1\ncorrelation = [\"z\"]", "no point `z`"),
            ("minutes = 1", "minutes = 1\nplane = [\"knn\", \"x\"]", "a plane of x"),
            (
                "[[series]]",
                "[[measure]]\nname = \"report\"\ncommand = \"c\"\n[[series]]",
                "named report",
            ),
            (
                "[[series]]",
                "[metric.m]\ntitle = \"M\"\nof = \"n\"\nat = []\n[[series]]",
                "no measure `n`",
            ),
        ] {
            let error = refused(from, to);
            assert!(error.contains(says) && error.contains("mine.toml"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
