//! The curves of training.

use maud::{Markup, html};
use portolan_metrics::{MetricsRow, names};

use super::Section;
use crate::charts::line::LineChart;
use crate::charts::matrices::{Row, figure};
use crate::charts::{SMALL, WIDE};
use crate::error::Result;
use crate::format::{metric_title, percent};
use crate::page::Page;

/// kNN accuracy and loss side by side, then everything else that was logged in small.
pub(crate) fn section(page: &Page) -> Result<Section> {
    let untrained = page.report.knn.as_ref().map(|knn| knn.random_init_top1);
    let level_name = untrained.map(|top1| format!("untrained {}", percent(top1)));
    let knn = LineChart {
        title: "kNN accuracy",
        by: "epoch",
        points: by_epoch(page.metrics, names::KNN_TOP1),
        level: level_name.as_deref().zip(untrained),
        percent: true,
        size: WIDE,
    };
    let loss = curve(page.metrics, names::LOSS, "Loss", WIDE);
    let rate = curve(page.metrics, names::LEARNING_RATE, "Learning rate", SMALL);
    let wide: Vec<Markup> = [&knn, &loss].into_iter().filter_map(LineChart::render).collect();
    let small: Vec<Markup> = rate.render().into_iter().chain(others(page.metrics)).collect();
    let run = Row { name: String::new(), pictures: page.correlations };
    let correlations = figure(&[run])?;
    let body = html! {
        @if page.metrics.is_empty() {
            p.missing { "Nothing was logged during this run, so there are no curves." }
        }
        div.charts { @for chart in &wide { (chart) } }
        @if !page.metrics.is_empty() && knn.points.is_empty() {
            p.missing { (page.why_no_knn("during training")) }
        }
        div.charts.small { @for chart in &small { (chart) } }
        @if let Some(figure) = correlations { div.charts { (figure) } }
    };
    Ok(Section { id: "training", title: "Training", lead: None, body })
}

/// A chart of every metric that has none yet.
pub(crate) fn others(metrics: &[MetricsRow]) -> Vec<Markup> {
    let mut all: Vec<&str> =
        metrics.iter().flat_map(|row| row.metrics.keys()).map(String::as_str).collect();
    all.sort_unstable();
    all.dedup();
    all.retain(|name| ![names::KNN_TOP1, names::LOSS, names::LEARNING_RATE].contains(name));
    all.iter()
        .filter_map(|name| curve(metrics, name, &metric_title(name), SMALL).render())
        .collect()
}

/// A metric by step.
pub(crate) fn curve<'a>(
    metrics: &[MetricsRow],
    name: &str,
    title: &'a str,
    size: (f64, f64),
) -> LineChart<'a> {
    let points =
        metrics.iter().filter_map(|row| Some((row.step as f64, *row.metrics.get(name)?))).collect();
    LineChart { title, by: "step", points, level: None, percent: false, size }
}

/// A metric by epoch.
fn by_epoch(metrics: &[MetricsRow], name: &str) -> Vec<(f64, f64)> {
    metrics.iter().filter_map(|row| Some((row.epoch?, *row.metrics.get(name)?))).collect()
}
