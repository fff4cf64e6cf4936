//! `report.html`: the frame of the page, and what was run.

use std::path::{Path, PathBuf};

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html as markup};
use portolan_doctor::Finding;
use portolan_metrics::MetricsRow;

use crate::format::{count, counted, duration};
use crate::gallery::{self, Neighbors, SourceViews};
use crate::json::{Report, write_whole};
use crate::map::{self, Layout, MapPoint};
use crate::{curves, health, result};

/// The look of every page of Portolan's.
pub const STYLE: &str = include_str!("style.css");
/// Forbids every load, so that the page stays one file whatever is written into it.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/// All that the page shows. Empty parts are left out, with a line that says why.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The method's name as its authors write it (`MoCo`).
    pub method_name: &'a str,
    /// The run's figures.
    pub report: &'a Report,
    /// What it logged.
    pub metrics: &'a [MetricsRow],
    /// What is wrong with it, as far as its signals tell.
    pub finding: Option<&'a Finding>,
    /// Some training images with the views that training saw of them; a dozen is plenty.
    pub views: &'a [SourceViews],
    /// Some test images with their nearest training images.
    pub neighbors: &'a [Neighbors],
    /// The test embeddings in two dimensions.
    pub map: &'a [MapPoint],
    /// How they were brought there.
    pub layout: Layout,
    /// The classes' names by index; empty without labels.
    pub classes: &'a [String],
    /// The run's resolved settings, as `config.toml` has them.
    pub config_toml: &'a str,
}

/// One part of the page.
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// A sentence that says how to read it.
    pub(crate) lead: Option<String>,
    pub(crate) body: Markup,
}

impl Page<'_> {
    /// The name of a class, or its number where it has none.
    pub(crate) fn class(&self, index: usize) -> String {
        self.classes.get(index).cloned().unwrap_or_else(|| format!("class {index}"))
    }

    /// Why an accuracy is missing `when`.
    pub(crate) fn why_no_knn(&self, when: &str) -> String {
        match self.report.dataset.classes {
            0 => "The images have no labels, so there is no accuracy to measure.".to_owned(),
            _ => format!("kNN accuracy was not measured {when}."),
        }
    }
}

/// The page as one HTML file that loads nothing.
///
/// # Errors
/// Where a picture has no pixels.
pub fn html(page: &Page) -> Result<String> {
    let report = page.report;
    let title = format!("{} on {}", page.method_name, report.dataset.name);
    let setting = format!("{} · {}", report.encoder, counted(report.epochs, "epoch", "epochs"));
    let sections = [
        result::section(page),
        health::section(page),
        curves::section(page),
        gallery::views_section(page)?,
        gallery::neighbors_section(page)?,
        map::section(page)?,
        run_section(page),
    ];
    let body = markup! {
        header {
            p.brand { (compass()) "Portolan" }
            h1 { (title) " " span { "· " (setting) } }
            p.lead { (summary(report)) }
            nav aria-label="Sections" {
                @for section in &sections { a href=(format!("#{}", section.id)) { (section.title) } }
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

/// A whole page around this body.
pub(crate) fn document(title: &str, body: &Markup, version: &str) -> String {
    markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                footer { p { "Portolan " (version) ". This page is one file and loads nothing." } }
            }
        }
    }
    .into_string()
}

/// Writes the page as `report.html` into the folder `dir` and returns its path.
///
/// # Errors
/// Where a picture has no pixels, or the folder cannot be written to.
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

/// What a reader needs to repeat the run, and to judge it.
fn run_section(page: &Page) -> Section {
    let report = page.report;
    let data = &report.dataset;
    let epochs = counted(report.epochs, "epoch", "epochs");
    let images = format!(
        "{} training and {} test images",
        count(data.train as u64),
        count(data.test as u64)
    );
    let labels = match data.classes {
        0 => "no labels".to_owned(),
        n => counted(n, "class", "classes"),
    };
    let facts = [
        ("Method", format!("{}, recipe {}", report.method, report.recipe)),
        ("Encoder", format!("{}, {} parameters", report.encoder, count(report.parameters))),
        ("Training", format!("{epochs}, batch size {}", count(report.batch_size as u64))),
        ("Data", format!("{}: {images}, {labels}", data.name)),
        ("SHA-256", data.sha256.clone()),
        ("Seed", report.seed.to_string()),
        ("Device", format!("{}, {}", report.device, report.precision)),
        ("Finished", report.finished.replace('T', " ").replace('Z', " UTC")),
    ];
    let body = markup! {
        @if !report.notes.is_empty() || report.skipped.count > 0 {
            h3 { "Notes" }
            ul.notes {
                @for note in &report.notes { li { (note) } }
                @if report.skipped.count > 0 { li { (skipped(report)) } }
            }
        }
        dl.facts { @for (name, value) in facts { @if !value.is_empty() {
            div { dt { (name) } dd { (value) } }
        } } }
        @if !report.command.is_empty() {
            h3 { "Command" }
            pre { code { (report.command) } }
        }
        details {
            summary { "config.toml, all settings resolved" }
            pre { code { (page.config_toml) } }
        }
    };
    Section { id: "run", title: "What was run", lead: None, body }
}

/// Names the images that could not be read.
fn skipped(report: &Report) -> String {
    let skipped = &report.skipped;
    let names = skipped.first.join(", ");
    let more = if skipped.count > skipped.first.len() { ", …" } else { "" };
    let images = counted(skipped.count, "image", "images");
    format!(
        "{images} could not be read and {} left out: {names}{more}",
        if skipped.count == 1 { "was" } else { "were" }
    )
}

/// The brand: the rose from which a portolan chart's lines start.
pub fn compass() -> Markup {
    markup! {
        svg.compass viewBox="-12 -12 24 24" aria-hidden="true" {
            circle r="10.5" {}
            path d="M0-10.5V10.5M-10.5 0H10.5M-7.4-7.4 7.4 7.4M7.4-7.4-7.4 7.4" {}
            path.needle d="M0-9 2.4 0 0 9-2.4 0z" {}
        }
    }
}
