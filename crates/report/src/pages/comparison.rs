//! Several runs side by side: as text, and as a page with their curves.

use maud::{Markup, html};
use portolan_metrics::{MetricsRow, names};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::charts::overlay::{Overlay, legend};
use crate::charts::{SMALL, WIDE};
use crate::document::{compass, document};
use crate::error::Result;
use crate::file::write_whole;
use crate::format::{count, counted, duration, metric_title, percent, points};
use crate::pages::text::results;
use crate::report::Report;

/// Width and height of a chart alone in its row.
const WHOLE: (f64, f64) = (1040.0, 320.0);

/// One run among others.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The method's name as its authors write it (`SimCLR`), and what distinguishes this run.
    pub title: String,
    /// Its own page, relative to the comparison's folder (`simclr/report.html`).
    pub page: String,
    /// Its results.
    pub report: Report,
    /// Its metrics, as [`read_metrics`](portolan_metrics::read_metrics) gives it.
    pub metrics: Vec<MetricsRow>,
}

/// A run of a method that learns from text, beside those of images.
#[derive(Clone, Debug)]
pub struct TextEntry {
    /// The method's name.
    pub title: String,
    /// Its own page, relative to the comparison's folder.
    pub page: String,
    /// What was measured, its value, and what to compare it with.
    pub results: Vec<[String; 3]>,
}

/// The comparison as lines of text under a heading.
pub fn comparison_text(entries: &[Entry]) -> String {
    let width = entries.iter().map(|entry| entry.title.chars().count()).max().unwrap_or(0).max(20);
    let mut text = format!(
        "{:<width$} {:>10} {:>8} {:>10} {:>8} {:>9}\n",
        "method", "untrained", "kNN", "untrained", "probe", "seconds"
    );
    for Entry { title, report, .. } in entries {
        let share = |value: Option<f64>| {
            value.map_or("–".to_owned(), |value| format!("{:.1} %", 100.0 * value))
        };
        let (knn, probe) = (report.knn.as_ref(), report.linear_probe.as_ref());
        text += &format!(
            "{title:<width$} {:>10} {:>8} {:>10} {:>8} {:>9.0}\n",
            share(knn.map(|knn| knn.random_init_top1)),
            share(knn.map(|knn| knn.top1)),
            share(probe.map(|probe| probe.random_init_top1)),
            share(probe.map(|probe| probe.top1)),
            report.seconds
        );
    }
    text
}

/// Writes the comparison as one page to `path`, and returns the path.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_comparison(entries: &[Entry], texts: &[TextEntry], path: &Path) -> Result<PathBuf> {
    write_whole(path, page(entries, texts).as_bytes())
}

fn page(entries: &[Entry], texts: &[TextEntry]) -> String {
    let title = heading(entries);
    let body = html! {
        header {
            p.brand { (compass()) "Portolan" }
            h1 { (title) }
            p.lead {
                "Accuracies on test images, of the encoder before and after training without \
                 labels. "
                "Each name links to the run’s own page."
            }
        }
        main {
            section { (table(entries)) }
            section { h2 { "Training" } (curves(entries)) }
            @for text in texts {
                section { h2 { a href=(text.page) { (text.title) } } (results(&text.results)) }
            }
        }
    };
    let version = entries.first().map_or("", |entry| entry.report.version.as_str());
    document(&title, &body, version)
}

/// How many different values the runs have for something.
fn different<'a>(entries: &'a [Entry], of: impl Fn(&'a Report) -> &'a str) -> usize {
    entries.iter().map(|entry| of(&entry.report)).collect::<BTreeSet<_>>().len()
}

fn heading(entries: &[Entry]) -> String {
    match entries.first() {
        Some(first) if different(entries, |report| &report.dataset.name) == 1 => {
            format!("{} runs on {}", entries.len(), first.report.dataset.name)
        }
        _ => format!("{} runs", entries.len()),
    }
}

/// The metrics of all runs, over one another.
fn curves(entries: &[Entry]) -> Markup {
    let overlay = |name: &str, title: &str, size| {
        let curve = |entry: &Entry| -> Vec<(f64, f64)> {
            let rows = entry.metrics.iter();
            rows.filter_map(|row| Some((row.epoch?, *row.metrics.get(name)?))).collect()
        };
        let curves = entries.iter().map(|entry| (entry.title.as_str(), curve(entry))).collect();
        Overlay { title, curves, percent: name == names::KNN_TOP1, size }.render()
    };
    let one_method = different(entries, |report| &report.method) == 1;
    let loss = one_method.then(|| overlay(names::LOSS, "Loss", WIDE)).flatten();
    let knn_size = if loss.is_some() { WIDE } else { WHOLE };
    let knn = overlay(names::KNN_TOP1, "kNN accuracy", knn_size);
    let wide: Vec<Markup> = knn.into_iter().chain(loss).collect();
    let shared = shared_metrics(entries);
    let small = shared.iter().filter_map(|name| overlay(name, &metric_title(name), SMALL));
    let names: Vec<&str> = entries.iter().map(|entry| entry.title.as_str()).collect();
    html! {
        (legend(&names))
        div.charts { @for chart in &wide { (chart) } }
        div.charts.small { @for chart in small { (chart) } }
        @if !one_method {
            p.footnote {
                "Losses of different methods are different quantities, and are not drawn over one \
                 another."
            }
        }
    }
}

/// The metrics that at least two runs logged and that have no larger chart.
fn shared_metrics(entries: &[Entry]) -> Vec<&str> {
    let each: Vec<BTreeSet<&str>> = entries.iter().map(logged).collect();
    let shared = |name: &&str| each.iter().filter(|names| names.contains(name)).count() > 1;
    let all: BTreeSet<&str> = each.iter().flatten().copied().collect();
    let has_no_chart = |name: &&str| ![names::KNN_TOP1, names::LOSS].contains(name);
    all.into_iter().filter(shared).filter(has_no_chart).collect()
}

/// The names of all metrics that a run logged.
fn logged(entry: &Entry) -> BTreeSet<&str> {
    entry.metrics.iter().flat_map(|row| row.metrics.keys()).map(String::as_str).collect()
}

fn table(entries: &[Entry]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Accuracies" { table {
            caption { "Top-1 accuracy; gains in points" }
            thead { tr {
                th scope="col" { "Run" } th scope="col" { "Encoder" }
                th.n scope="col" { "kNN" } th.n scope="col" { "Gain" }
                th.n scope="col" { "Linear probe" } th.n scope="col" { "Gain" }
                th.n scope="col" { "Training" } th.n scope="col" { "Images/s" }
                th.n scope="col" { "Published" }
            } }
            tbody { @for entry in entries { (row(entry)) } }
        } }
        @if different(entries, |report| &report.dataset.sha256) > 1 {
            p.footnote { b {
                "These runs were not measured on the same images: their accuracies cannot be \
                 compared."
            } }
        }
        p.footnote {
            "Unless marked as comparable, published results were measured on other data: they show \
             what the method reaches there, not what this run should reach."
        }
    }
}

fn row(Entry { title, page, report, .. }: &Entry) -> Markup {
    let (knn, probe) = (report.knn.as_ref(), report.linear_probe.as_ref());
    let accuracy = |pair: Option<(f64, f64)>| {
        html! {
            td.n { @if let Some((after, _)) = pair { b { (percent(after)) } } @else { "–" } }
            td.n { @if let Some((after, before)) = pair { (points(after - before)) } @else { "–" } }
        }
    };
    html! { tr {
        th scope="row" { a href=(page) { (title) } }
        td { (report.encoder) small { (counted(report.epochs, "epoch", "epochs")) } }
        (accuracy(knn.map(|knn| (knn.top1, knn.random_init_top1))))
        (accuracy(probe.map(|probe| (probe.top1, probe.random_init_top1))))
        td.n { (duration(report.seconds)) }
        td.n { (count(report.images_per_second.round() as u64)) }
        td.n { @if let Some(published) = report.published.first() {
            (percent(published.value))
            small { @if published.comparable { "comparable" } @else { "not comparable" } }
        } @else { "–" } }
    } }
}
