//! The first thing a reader looks for: what the run reached, and what that is worth.

use maud::{Markup, html};

use crate::format::{count, percent, points};
use crate::json::{Published, Report};
use crate::page::{Page, Section};

/// An accuracy, by what it is called and what it was without training.
struct Headline {
    /// The protocol, as published metrics start with it.
    family: &'static str,
    name: &'static str,
    detail: String,
    top1: f64,
    untrained: f64,
}

/// The headline beside the published figure, and the tables.
pub(crate) fn section(page: &Page) -> Section {
    let report = page.report;
    let headline = headline(report);
    let body = html! {
        div.headline {
            @match &headline {
                Some(headline) => (ours(headline, report)),
                None => p.missing { (page.why_no_knn("in this run")) },
            }
            @match report.published.first() {
                Some(published) => (theirs(published, report)),
                None => p.missing { "No published figure is recorded for this method and recipe." },
            }
        }
        @if let Some(headline) = &headline { (ruler(headline, report.published.first())) }
        (figures(report))
        @if report.published.len() > 1 { (published_table(report)) }
        @if let Some(line) = caveats(report) { p.caveats { a href="#run" { (line) } } }
    };
    Section { id: "result", title: "Result", lead: None, body }
}

/// kNN accuracy, or the linear probe's where only that was measured or published.
fn headline(report: &Report) -> Option<Headline> {
    let knn = report.knn.as_ref().map(|knn| Headline {
        family: "knn",
        name: "kNN accuracy",
        detail: format!("k = {}, temperature {}", knn.k, knn.temperature),
        top1: knn.top1,
        untrained: knn.random_init_top1,
    });
    let probe = report.linear_probe.as_ref().map(|probe| Headline {
        family: "linear_probe",
        name: "Linear probe accuracy",
        detail: "frozen encoder".to_owned(),
        top1: probe.top1,
        untrained: probe.random_init_top1,
    });
    match report.published.first() {
        Some(published) if published.metric.starts_with("linear_probe") => probe.or(knn),
        _ => knn.or(probe),
    }
}

fn ours(headline: &Headline, report: &Report) -> Markup {
    html! {
        div.ours {
            h3 { "This run" }
            p.big { (percent(headline.top1)) }
            p { (headline.name) " on " (count(report.dataset.test as u64)) " test images ("
                (headline.detail) "). The untrained encoder reaches " (percent(headline.untrained))
                "; training changed that by " b { (points(headline.top1 - headline.untrained)) " points" } "." }
        }
    }
}

fn theirs(published: &Published, report: &Report) -> Markup {
    let verdict = if published.comparable { "Comparable" } else { "Not comparable" };
    html! {
        div.theirs {
            h3 { "Published" }
            p.big { (percent(published.value)) }
            p { (metric_name(&published.metric)) ", " (published.source) ": " (published.setting) "." }
            p.verdict.differs[!published.comparable] {
                b { (verdict) } " " (why(published))
                @if let Some(same) = on_best_epoch(published, report) { " " (same) }
            }
        }
    }
}

/// Why a published figure may or may not be held against this run's.
fn why(published: &Published) -> String {
    match (published.comparable, published.differences.is_empty()) {
        (true, _) => "Same data, encoder, epochs and protocol.".to_owned(),
        (false, true) => "This run's setting is another one.".to_owned(),
        (false, false) => format!("This run differs in: {}.", published.differences.join("; ")),
    }
}

/// This run's figure for the source's measure, where that is not the run's last epoch.
fn on_best_epoch(published: &Published, report: &Report) -> Option<String> {
    let value = report.measured(&published.metric).filter(|_| published.metric.contains("best"))?;
    Some(format!(
        "The source reports its best epoch on the test set; on that measure this run has {}.",
        percent(value)
    ))
}

/// Untrained, trained and published on one line from 0 to 100 %.
fn ruler(headline: &Headline, published: Option<&Published>) -> Markup {
    let (from, to) = (headline.untrained.min(headline.top1), headline.untrained.max(headline.top1));
    let gain = format!("left:{:.2}%;width:{:.2}%", from * 100.0, (to - from) * 100.0);
    let published = published.filter(|published| published.metric.starts_with(headline.family));
    html! {
        div.ruler aria-hidden="true" {
            div.gain style=(gain) {}
            (mark("untrained", "untrained", headline.untrained))
            @if let Some(published) = published {
                @let class = if published.comparable { "published" } else { "published differs" };
                (mark(class, "published", published.value))
            }
            (mark("trained", "this run", headline.top1))
        }
    }
}

/// A named place on the ruler; near an end its name turns inwards.
fn mark(class: &str, name: &str, value: f64) -> Markup {
    let side = match value {
        ..0.15 => "start",
        0.85.. => "end",
        _ => "middle",
    };
    html! {
        div class=(format!("mark {class} {side}")) style=(format!("left:{:.2}%", value * 100.0)) {
            span { (name) " " (percent(value)) }
        }
    }
}

/// Trained beside untrained, for every protocol.
fn figures(report: &Report) -> Markup {
    if report.knn.is_none() && report.linear_probe.is_none() {
        return html! {};
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Accuracies" {
            table {
                caption { "Top-1 accuracy on the test images; the gain in points" }
                thead { tr {
                    th scope="col" { "Protocol" } th.n scope="col" { "Untrained" } th.n scope="col" { "Trained" }
                    th.n scope="col" { "Best epoch" } th.n scope="col" { "Gain" }
                } }
                tbody {
                    @if let Some(knn) = &report.knn {
                    tr {
                        th scope="row" { "kNN" small { "k = " (knn.k) ", temperature " (knn.temperature) } }
                        td.n { (percent(knn.random_init_top1)) } td.n { b { (percent(knn.top1)) } }
                        td.n { (percent(knn.best_over_epochs)) } td.n { (points(knn.top1 - knn.random_init_top1)) }
                    }
                    @if let Some(head) = knn.head_top1 { tr {
                        th scope="row" { "kNN on the head’s outputs" small { "what training compares; thrown away" } }
                        td.n { "–" } td.n { (percent(head)) } td.n { "–" } td.n { "–" }
                    } }
                    }
                    @if let Some(probe) = &report.linear_probe { tr {
                        th scope="row" { "Linear probe" small { "frozen encoder" } }
                        td.n { (percent(probe.random_init_top1)) } td.n { b { (percent(probe.top1)) } }
                        td.n { "–" } td.n { (points(probe.top1 - probe.random_init_top1)) }
                    } }
                }
            }
        }
        @if let Some(knn) = &report.knn {
            p.footnote {
                "The best epoch is chosen on the test images and so is optimistic; "
                "the trained figure is the last epoch’s. "
                @if let Some(as_built) = knn.random_init_as_built_top1 {
                    "The untrained encoder’s batch statistics are those of the training images; as it was built, it "
                    "reaches " (percent(as_built)) " by kNN."
                }
            }
        }
        @if report.linear_probe.is_none() { p.missing { "No linear probe was fitted in this run." } }
    }
}

fn published_table(report: &Report) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Published figures" {
            table.sources {
                caption { "Published figures" }
                thead { tr {
                    th scope="col" { "Source" } th scope="col" { "Measure" } th.n scope="col" { "Published" }
                    th.n scope="col" { "This run" } th scope="col" { "Comparable" }
                } }
                tbody { @for published in &report.published { tr {
                    th scope="row" { (published.source) small { (published.setting) } }
                    td { (metric_name(&published.metric)) } td.n { (percent(published.value)) }
                    td.n { (report.measured(&published.metric).map_or("–".to_owned(), percent)) }
                    td {
                        @if published.comparable { "yes" }
                        @else { "no" small { (published.differences.join("; ")) } }
                    }
                } } }
            }
        }
    }
}

fn metric_name(metric: &str) -> &str {
    match metric {
        "knn_top1" => "kNN",
        "knn_head_top1" => "kNN on the head’s outputs",
        "knn_best_over_epochs" => "kNN, best epoch",
        "linear_probe_top1" => "Linear probe",
        other => other,
    }
}

/// Leads to the notes, so that nobody takes the figures without them.
fn caveats(report: &Report) -> Option<String> {
    let notes = report.notes.len() + usize::from(report.skipped.count > 0);
    match notes {
        0 => None,
        1 => Some("One note on this run".to_owned()),
        n => Some(format!("{n} notes on this run")),
    }
}
