//! Several methods in one table: as text, and as a page.

use std::path::{Path, PathBuf};

use anyhow::Result;
use maud::{Markup, html};

use crate::format::{count, duration, percent, points};
use crate::json::{Report, write_whole};
use crate::page::{compass, document};

/// One run among others.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The method's name as its authors write it (`SimCLR`).
    pub title: String,
    /// Where its own page is, seen from the comparison's folder (`simclr/report.html`).
    pub page: String,
    /// Its figures.
    pub report: Report,
}

/// The comparison as lines of text under a heading.
pub fn comparison_text(entries: &[Entry]) -> String {
    let mut text = format!(
        "{:<20} {:>10} {:>8} {:>10} {:>8} {:>9}\n",
        "method", "untrained", "kNN", "untrained", "probe", "seconds"
    );
    for Entry { title, report, .. } in entries {
        let share = |value: Option<f64>| {
            value.map_or("–".to_owned(), |value| format!("{:.1} %", 100.0 * value))
        };
        let (knn, probe) = (report.knn.as_ref(), report.linear_probe.as_ref());
        text += &format!(
            "{title:<20} {:>10} {:>8} {:>10} {:>8} {:>9.0}\n",
            share(knn.map(|knn| knn.random_init_top1)),
            share(knn.map(|knn| knn.top1)),
            share(probe.map(|probe| probe.random_init_top1)),
            share(probe.map(|probe| probe.top1)),
            report.seconds
        );
    }
    text
}

/// Writes the comparison as `comparison.html` into the folder `dir` and returns its path.
///
/// # Errors
/// Where the folder cannot be written to.
pub fn write_comparison(entries: &[Entry], dir: &Path) -> Result<PathBuf> {
    write_whole(&dir.join("comparison.html"), page(entries).as_bytes())
}

fn page(entries: &[Entry]) -> String {
    let data = entries.first().map_or("", |entry| entry.report.dataset.name.as_str());
    let title = format!("{} methods on {data}", entries.len());
    let body = html! {
        header {
            p.brand { (compass()) "Portolan" }
            h1 { (title) }
            p.lead {
                "Accuracies on test images, of the encoder before and after training without labels. "
                "Each method links to its own page."
            }
        }
        main { section { (table(entries)) } }
    };
    let version = entries.first().map_or("", |entry| entry.report.version.as_str());
    document(&title, &body, version)
}

fn table(entries: &[Entry]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Accuracies by method" { table {
            caption { "Top-1 accuracy; gains in points" }
            thead { tr {
                th scope="col" { "Method" } th scope="col" { "Encoder" }
                th.n scope="col" { "kNN" } th.n scope="col" { "Gain" }
                th.n scope="col" { "Linear probe" } th.n scope="col" { "Gain" }
                th.n scope="col" { "Training" } th.n scope="col" { "Images/s" }
                th.n scope="col" { "Published" }
            } }
            tbody { @for entry in entries { (row(entry)) } }
        } }
        p.footnote {
            "Published figures were measured on other data unless they are marked as comparable: they say what the "
            "method reaches there, not what this run should."
        }
    }
}

fn row(Entry { title, page, report }: &Entry) -> Markup {
    let (knn, probe) = (report.knn.as_ref(), report.linear_probe.as_ref());
    let figure = |pair: Option<(f64, f64)>| {
        html! {
            td.n { @if let Some((after, _)) = pair { b { (percent(after)) } } @else { "–" } }
            td.n { @if let Some((after, before)) = pair { (points(after - before)) } @else { "–" } }
        }
    };
    html! { tr {
        th scope="row" { a href=(page) { (title) } }
        td { (report.encoder) small { (report.epochs) " epochs" } }
        (figure(knn.map(|knn| (knn.top1, knn.random_init_top1))))
        (figure(probe.map(|probe| (probe.top1, probe.random_init_top1))))
        td.n { (duration(report.seconds)) }
        td.n { (count(report.images_per_second.round() as u64)) }
        td.n { @if let Some(figure) = report.published.first() {
            (percent(figure.value)) small { @if figure.comparable { "comparable" } @else { "not comparable" } }
        } @else { "–" } }
    } }
}
