//! Claims of self-supervised learning as experiments: what to run, and the rule that judges it.
//!
//! A [`Study`] is a TOML file of twenty to sixty lines in `studies/`: the claim and its source, the
//! settings to vary, the metrics to plot, and one or more [`Rule`]s. [`judge`] applies the rules to
//! what the runs gave:
//!
//! ```
//! use portolan_study::{Study, Verdict, judge};
//!
//! let study = Study::parse(
//!     "temperature",
//!     r#"
//!     title = "Temperature"
//!     claim = "A medium temperature is best."
//!     source = "SimCLR, table 5"
//!     published = "64.4 % at 0.1, 58.8 % at 1"
//!     minutes = 10
//!     seeds = [0, 1]
//!     by = "temperature"
//!     metrics = ["knn"]
//!
//!     [[series]]
//!     name = "SimCLR"
//!     method = "simclr"
//!     recipe = "shapes"
//!
//!     [[point]]
//!     name = "0.1"
//!     set.settings.temperature = 0.1
//!
//!     [[point]]
//!     name = "1"
//!     set.settings.temperature = 1.0
//!
//!     [[rule]]
//!     claim = "0.1 is better than 1"
//!     metric = "knn"
//!     above = ["0.1"]
//!     below = ["1"]
//!     "#,
//! )?;
//! // 80 % at 0.1 with both seeds; 70 and 95 % at 1.
//! let findings = judge(&study, |run, _metric| match (study.name_of_point(run), run.seed) {
//!     ("0.1", _) => Some(0.8),
//!     (_, 0) => Some(0.7),
//!     _ => Some(0.95),
//! })?;
//! assert_eq!(findings.verdict, Verdict::DoesNotHold);
//! assert!(findings.rules[0].low < 0.0 && findings.rules[0].high > 0.0);
//! # Ok::<(), portolan_study::Error>(())
//! ```
//!
//! A rule compares the same seed with itself, and a claim holds only if it does with every seed:
//! with two or three seeds, a confidence interval would say little. What was measured is reported
//! with its extremes.

mod error;
mod findings;
mod metric;
mod rule;
mod study;

pub use error::{Error, Result};
pub use findings::{Findings, PointFindings, RuleFindings, SeriesFindings, judge};
pub use metric::{Measure, Metric};
pub use rule::{Choose, Rule, Verdict};
pub use study::{Point, Run, Series, Study};

/// The studies of this crate: their names and files.
const STUDIES: &[(&str, &str)] = &[
    ("augmentation", include_str!("../studies/augmentation.toml")),
    ("head", include_str!("../studies/head.toml")),
    ("batch", include_str!("../studies/batch.toml")),
    ("queue", include_str!("../studies/queue.toml")),
    ("momentum", include_str!("../studies/momentum.toml")),
    ("temperature", include_str!("../studies/temperature.toml")),
    ("collapse", include_str!("../studies/collapse.toml")),
    ("redundancy", include_str!("../studies/redundancy.toml")),
    ("masking", include_str!("../studies/masking.toml")),
    ("masking-text", include_str!("../studies/masking-text.toml")),
    ("alignment", include_str!("../studies/alignment.toml")),
    ("segmentation", include_str!("../studies/segmentation.toml")),
    ("probe", include_str!("../studies/probe.toml")),
    ("properties", include_str!("../studies/properties.toml")),
    ("invariance", include_str!("../studies/invariance.toml")),
    ("pretext", include_str!("../studies/pretext.toml")),
    ("cost", include_str!("../studies/cost.toml")),
];

/// All studies, in the order of the text that makes their claims.
///
/// # Errors
/// If a file of this crate is not a study, which its tests exclude.
pub fn all() -> Result<Vec<Study>> {
    STUDIES.iter().map(|(name, text)| Study::parse(name, text)).collect()
}

/// The study with this name.
///
/// # Errors
/// If there is none. The message lists all.
pub fn find(name: &str) -> Result<Study> {
    let found = STUDIES.iter().find(|(known, _)| *known == name);
    let (name, text) = found.ok_or_else(|| {
        let names: Vec<&str> = STUDIES.iter().map(|(name, _)| *name).collect();
        Error::Unknown { name: name.to_owned(), known: names.join(", ") }
    })?;
    Study::parse(name, text)
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_study_is_valid_and_short() {
        for (name, text) in STUDIES {
            let study = find(name).unwrap();
            assert!(study.seeds.len() >= 2, "{name}");
            let lines = text.lines().count();
            assert!((20..=90).contains(&lines), "{name} has {lines} lines");
        }
        let error = find("temprature").unwrap_err().to_string();
        assert!(error.contains("temprature") && error.contains("momentum, temperature"), "{error}");
    }

    /// Every study can fail: where all runs give the same, its claim does not hold.
    #[test]
    fn no_study_holds_where_nothing_differs() {
        for study in all().unwrap() {
            let findings = judge(&study, |_, _| Some(0.0)).unwrap();
            assert_eq!(findings.verdict, Verdict::DoesNotHold, "{}", study.name);
        }
    }
}
