//! The accuracy that the run reached, beside its baseline and published results.

use maud::{Markup, html};

use super::Section;
use crate::format::{count, counted, percent, points};
use crate::page::Page;
use crate::report::{Knn, Published, Report};

/// The accuracy shown first, with that of the untrained encoder.
struct Headline {
    /// How the names of published metrics of this protocol start.
    protocol: &'static str,
    name: &'static str,
    detail: String,
    top1: f64,
    untrained: f64,
}

/// The headline beside the published result, and the tables.
pub(crate) fn section(page: &Page) -> Section {
    let report = page.report;
    let headline = headline(report);
    let body = html! {
        div.headline {
            @match &headline {
                Some(headline) => (this_run(headline, report)),
                None => p.missing { (page.why_no_knn("in this run")) },
            }
            @match report.published.first() {
                Some(published) => (reference(published, report)),
                None => p.missing { "No published result is recorded for this method and recipe." },
            }
        }
        @if let Some(headline) = &headline { (ruler(headline, report.published.first())) }
        (accuracies(report))
        (baselines(report))
        @if report.published.len() > 1 { (published_table(report)) }
        @if let Some(line) = caveats(report) { p.caveats { a href="#run" { (line) } } }
    };
    Section { id: "result", title: "Result", lead: None, body }
}

/// kNN accuracy, or the linear probe's where only that was measured or published.
fn headline(report: &Report) -> Option<Headline> {
    let knn = report.knn.as_ref().map(|knn| Headline {
        protocol: "knn",
        name: "kNN accuracy",
        detail: format!("k = {}, temperature {}", knn.k, knn.temperature),
        top1: knn.top1,
        untrained: knn.random_init_top1,
    });
    let probe = report.linear_probe.as_ref().map(|probe| Headline {
        protocol: "linear_probe",
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

fn this_run(headline: &Headline, report: &Report) -> Markup {
    html! {
        div.ours {
            h3 { "This run" }
            p.big { (percent(headline.top1)) }
            p { (headline.name) " on " (count(report.dataset.test as u64)) " test images ("
                (headline.detail) "). The untrained encoder reaches " (percent(headline.untrained))
                "; training changed that by "
                b { (points(headline.top1 - headline.untrained)) " points" } "." }
        }
    }
}

fn reference(published: &Published, report: &Report) -> Markup {
    let verdict = if published.comparable { "Comparable" } else { "Not comparable" };
    html! {
        div.theirs {
            h3 { "Published" }
            p.big { (percent(published.value)) }
            p {
                (metric_name(&published.metric)) ", " (published.source) ": "
                (published.setting) "."
            }
            p.verdict.differs[!published.comparable] {
                b { (verdict) } " " (why(published))
                @if let Some(same) = on_best_epoch(published, report) { " " (same) }
            }
        }
    }
}

/// Why the published result is or is not comparable with this run's.
fn why(published: &Published) -> String {
    match (published.comparable, published.differences.is_empty()) {
        (true, _) => "Same data, encoder, epochs and protocol.".to_owned(),
        (false, true) => "This run's setting is a different one.".to_owned(),
        (false, false) => format!("This run differs in: {}.", published.differences.join("; ")),
    }
}

/// This run's result by the source's metric, where the source reports its best epoch.
fn on_best_epoch(published: &Published, report: &Report) -> Option<String> {
    let value = report.measured(&published.metric).filter(|_| published.metric.contains("best"))?;
    Some(format!(
        "The source reports its best epoch on the test set; by that metric this run has {}.",
        percent(value)
    ))
}

/// Untrained, trained and published on one line from 0 to 100 %.
fn ruler(headline: &Headline, published: Option<&Published>) -> Markup {
    let (from, to) = (headline.untrained.min(headline.top1), headline.untrained.max(headline.top1));
    let gain = format!("left:{:.2}%;width:{:.2}%", from * 100.0, (to - from) * 100.0);
    let published = published.filter(|published| published.metric.starts_with(headline.protocol));
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

/// A named place on the ruler; near an end its name is aligned inwards.
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
fn accuracies(report: &Report) -> Markup {
    if report.knn.is_none() && report.linear_probe.is_none() {
        return html! {};
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Accuracies" {
            table {
                caption { "Top-1 accuracy on the test images; gain in points" }
                thead { tr {
                    th scope="col" { "Protocol" } th.n scope="col" { "Untrained" }
                    th.n scope="col" { "Trained" } th.n scope="col" { "Best epoch" }
                    th.n scope="col" { "Gain" }
                } }
                tbody {
                    @if let Some(knn) = &report.knn { (knn_rows(knn)) }
                    @if let Some(probe) = &report.linear_probe { tr {
                        th scope="row" { "Linear probe" small { "frozen encoder" } }
                        td.n { (percent(probe.random_init_top1)) }
                        td.n { b { (percent(probe.top1)) } }
                        td.n { "–" } td.n { (points(probe.top1 - probe.random_init_top1)) }
                    } }
                }
            }
        }
        @if let Some(knn) = &report.knn {
            p.footnote {
                "The best epoch is chosen on the test images and so is optimistic; "
                "the trained accuracy is the last epoch’s. "
                @if let Some(as_built) = knn.random_init_as_built_top1 {
                    "The untrained encoder’s batch statistics are those of the training images; \
                     with its initial ones it reaches " (percent(as_built)) " by kNN."
                }
            }
        }
        @if report.linear_probe.is_none() {
            p.missing { "No linear probe was fitted in this run." }
        }
    }
}

fn knn_rows(knn: &Knn) -> Markup {
    html! {
        tr {
            th scope="row" { "kNN" small { "k = " (knn.k) ", temperature " (knn.temperature) } }
            td.n { (percent(knn.random_init_top1)) } td.n { b { (percent(knn.top1)) } }
            td.n { (percent(knn.best_over_epochs)) }
            td.n { (points(knn.top1 - knn.random_init_top1)) }
        }
        @if let Some(head) = knn.head_top1 { tr {
            th scope="row" {
                "kNN on the head’s outputs"
                small { "compared by the loss; discarded after training" }
            }
            td.n { "–" } td.n { (percent(head)) } td.n { "–" } td.n { "–" }
        } }
    }
}

/// Features without a network, which training has to exceed.
fn baselines(report: &Report) -> Markup {
    if report.baselines.is_empty() {
        return html! {};
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Baselines" {
            table {
                caption { "Features without a network, on the same images" }
                thead { tr {
                    th scope="col" { "Features" } th.n scope="col" { "kNN" }
                } }
                tbody { @for baseline in &report.baselines { tr {
                    th scope="row" { (baseline.name) }
                    td.n { (percent(baseline.knn_top1)) }
                } } }
            }
        }
    }
}

fn published_table(report: &Report) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Published results" {
            table.sources {
                caption { "Published results" }
                thead { tr {
                    th scope="col" { "Source" } th scope="col" { "Metric" }
                    th.n scope="col" { "Published" } th.n scope="col" { "This run" }
                    th scope="col" { "Comparable" }
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

/// The text of the link to the notes, without which the accuracies are easily misread.
fn caveats(report: &Report) -> Option<String> {
    let notes = report.notes.len() + usize::from(report.skipped.count > 0);
    (notes > 0).then(|| format!("{} on this run", counted(notes, "note", "notes")))
}
