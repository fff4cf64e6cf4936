//! What a study must not contradict.

use std::collections::BTreeSet;

use super::Study;
use crate::metric::{LOGGED, REPORT};

impl Study {
    /// Refuses a study that contradicts itself, with the reason.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.series.is_empty() || self.seeds.is_empty() || self.rules.is_empty() {
            return Err("needs a series, a seed and a rule".to_owned());
        }
        unique("series", self.series.iter().map(|series| &*series.name))?;
        for series in &self.series {
            let points = self.points_of(series);
            if points.is_empty() {
                return Err(format!("has no point for {}", series.name));
            }
            unique("point", points.iter().map(|point| &*point.name))?;
        }
        unique("measure", self.measures.iter().map(|measure| &*measure.name))?;
        if let Some(own) = self.measures.iter().find(|it| [REPORT, LOGGED].contains(&&*it.name)) {
            return Err(format!("has a measure named {}, which is what runs write", own.name));
        }
        let named = self.measures.iter().flat_map(|measure| &measure.series);
        if let Some(name) = named.into_iter().find(|name| self.series_named(name).is_none()) {
            return Err(format!("has no series `{name}`, which a measure names"));
        }
        for (name, metric) in &self.defined {
            let known = |of: &&String| {
                [REPORT, LOGGED].contains(&&***of)
                    || self.measures.iter().any(|measure| measure.name == **of)
            };
            if let Some(of) = metric.measures().find(|of| !known(of)) {
                return Err(format!("has no measure `{of}`, which the metric {name} names"));
            }
        }
        if let Some(name) = self.plane.iter().flatten().find(|it| !self.metrics.contains(it)) {
            return Err(format!("has a plane of {name}, which is not among its metrics"));
        }
        if let Some(name) = self.correlation.iter().find(|name| self.place(0, name).is_none()) {
            return Err(format!("has no point `{name}`, whose correlation is asked for"));
        }
        for rule in &self.rules {
            if !self.metrics.contains(&rule.metric) {
                return Err(format!("judges {}, which is not among its metrics", rule.metric));
            }
            if let Some(name) = rule.series.iter().find(|name| self.series_named(name).is_none()) {
                return Err(format!("has no series `{name}`, which a rule names"));
            }
            if rule.above.is_empty() {
                return Err(format!("has a rule without `above`: {}", rule.claim));
            }
            for series in self.series_of(rule) {
                for name in rule.above.iter().chain(&rule.below) {
                    if self.place(series, name).is_none() {
                        return Err(format!("has no point `{name}`, which a rule names"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Refuses names that occur twice.
fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(format!("has two {what}s named `{name}`"));
        }
        if name.contains('/') {
            return Err(format!("has a {what} named `{name}`; names have no /"));
        }
    }
    Ok(())
}
