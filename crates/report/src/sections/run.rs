//! What a reader needs to judge the run and to repeat it.

use maud::html;

use super::Section;
use crate::format::{count, counted, gigabytes};
use crate::page::Page;
use crate::report::{Report, Skipped};

/// Notes, settings and the command.
pub(crate) fn section(page: &Page) -> Section {
    let report = page.report;
    let body = html! {
        @if !report.notes.is_empty() || report.skipped.count > 0 {
            h3 { "Notes" }
            ul.notes {
                @for note in &report.notes { li { (note) } }
                @if report.skipped.count > 0 { li { (skipped(&report.skipped)) } }
            }
        }
        dl.facts { @for (name, value) in facts(report) { @if !value.is_empty() {
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

fn facts(report: &Report) -> [(&'static str, String); 9] {
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
    [
        ("Method", format!("{}, recipe {}", report.method, report.recipe)),
        ("Encoder", format!("{}, {} parameters", report.encoder, count(report.parameters))),
        ("Training", format!("{epochs}, batch size {}", count(report.batch_size as u64))),
        ("Data", format!("{}: {images}, {labels}", data.name)),
        ("SHA-256", data.sha256.clone()),
        ("Seed", report.seed.to_string()),
        ("Device", format!("{}, {}", report.device, report.precision)),
        ("Peak memory", report.peak_memory.map(gigabytes).unwrap_or_default()),
        ("Finished", report.finished.replace('T', " ").replace('Z', " UTC")),
    ]
}

/// Names the images that could not be read.
fn skipped(skipped: &Skipped) -> String {
    let names = skipped.first.join(", ");
    let more = if skipped.count > skipped.first.len() { ", …" } else { "" };
    let images = counted(skipped.count, "image", "images");
    let was = if skipped.count == 1 { "was" } else { "were" };
    format!("{images} could not be read and {was} left out: {names}{more}")
}
