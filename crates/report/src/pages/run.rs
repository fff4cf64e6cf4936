//! `report.html`: the page of one run.

use maud::html as markup;
use std::path::{Path, PathBuf};

use crate::document::{compass, document};
use crate::error::Result;
use crate::file::write_whole;
use crate::format::{count, counted, duration};
use crate::page::Page;
use crate::report::Report;
use crate::sections;

/// The page as one HTML file that loads nothing.
///
/// # Errors
/// When an image has no pixels.
pub fn html(page: &Page) -> Result<String> {
    let report = page.report;
    let title = format!("{} on {}", page.method_name, report.dataset.name);
    let setting = format!("{} · {}", report.encoder, counted(report.epochs, "epoch", "epochs"));
    let sections = sections::all(page)?;
    let body = markup! {
        header {
            p.brand { (compass()) "Portolan" }
            h1 { (title) " " span { "· " (setting) } }
            p.lead { (summary(report)) }
            nav aria-label="Sections" {
                @for section in &sections {
                    a href=(format!("#{}", section.id)) { (section.title) }
                }
            }
        }
        main { @for section in sections { section id=(section.id) {
            h2 { (section.title) }
            @if let Some(lead) = section.lead { p.lead { (lead) } }
            (section.body)
        } } }
    };
    Ok(document(&format!("{title} · {setting}"), &body, &report.version))
}

/// Writes the page as `report.html` into the folder `dir` and returns its path.
///
/// # Errors
/// When an image has no pixels, or the folder cannot be written to.
pub fn write_html(page: &Page, dir: &Path) -> Result<PathBuf> {
    write_whole(&dir.join("report.html"), html(page)?.as_bytes())
}

/// The run in one sentence.
fn summary(report: &Report) -> String {
    format!(
        "Trained without labels on {}, in {} on {}: {} images a second.",
        counted(report.dataset.train, "image", "images"),
        duration(report.seconds),
        report.device,
        count(report.images_per_second.round() as u64),
    )
}
