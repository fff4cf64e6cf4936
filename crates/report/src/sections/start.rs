//! The encoder that the run started from, beside the trained one.

use maud::{Markup, html};

use super::Section;
use crate::format::{percent, points};
use crate::page::Page;
use crate::start::{Change, Signal, Start};

/// Before and after; none for a run that started from random weights.
pub(crate) fn section(page: &Page) -> Option<Section> {
    let start = page.report.start.as_ref()?;
    let body = html! {
        p { b { (start.verdict) } }
        (accuracies(start))
        @if !start.signals.is_empty() { (signals(&start.signals)) }
        p.footnote {
            "Started from " code { (start.source) } ". That encoder is kept as "
            code { (start.file) } " in the folder of the run."
        }
    };
    Some(Section { id: "start", title: "Before and after", lead: None, body })
}

fn accuracies(start: &Start) -> Markup {
    let rows = [("kNN", &start.knn), ("Linear probe", &start.linear_probe)];
    let rows = rows.into_iter().filter_map(|(name, change)| Some((name, change.as_ref()?)));
    let rows: Vec<(&str, &Change)> = rows.collect();
    if rows.is_empty() {
        return html! {};
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Accuracies before and after" {
            table {
                caption { "Top-1 accuracy on the same test images; differences in points" }
                thead { tr {
                    th scope="col" { "Protocol" } th.n scope="col" { "Before" }
                    th.n scope="col" { "After" } th.n scope="col" { "Difference" }
                    th.n scope="col" { "95 % interval" } th.n scope="col" { "Images gained, lost" }
                    th scope="col" { "Verdict" }
                } }
                tbody { @for (name, change) in rows { tr {
                    th scope="row" { (name) }
                    td.n { (percent(change.before)) } td.n { b { (percent(change.after)) } }
                    td.n { (points(change.after - change.before)) }
                    td.n { (points(change.interval[0])) " to " (points(change.interval[1])) }
                    td.n { (change.gained) ", " (change.lost) }
                    td { (change.verdict()) }
                } } }
            }
        }
    }
}

fn signals(signals: &[Signal]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Signals without labels" {
            table {
                caption { "Measured without labels on the run’s images" }
                thead { tr {
                    th scope="col" { "Signal" } th.n scope="col" { "Before" }
                    th.n scope="col" { "After" }
                } }
                tbody { @for signal in signals { tr {
                    th scope="row" { (signal.name.replace('_', " ")) }
                    td.n { (format!("{:.3}", signal.before)) }
                    td.n { (format!("{:.3}", signal.after)) }
                } } }
            }
        }
    }
}
