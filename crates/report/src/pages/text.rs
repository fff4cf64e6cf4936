//! `report.html` of a run that learned from text.

use maud::{Markup, html};
use portolan_metrics::{MetricsRow, names};
use std::path::{Path, PathBuf};

use crate::charts::{SMALL, WIDE};
use crate::document::{compass, document};
use crate::error::Result;
use crate::file::write_whole;
use crate::sections::training::{curve, others};

/// The content of the page. Parts that are empty are left out.
#[derive(Clone, Copy, Debug)]
pub struct TextPage<'a> {
    /// The method and its text (`GPT on shakespeare`).
    pub title: &'a str,
    /// The run in one sentence.
    pub lead: &'a str,
    /// The results: what was measured, its value, and what to compare it with.
    pub results: &'a [[String; 3]],
    /// The metrics that the run logged.
    pub metrics: &'a [MetricsRow],
    /// Passages with blanks, and guesses for each.
    pub filled: &'a [FilledPassage],
    /// Texts that the model wrote, each with how it was drawn.
    pub samples: &'a [[String; 2]],
    /// What the tokens of a passage attend to.
    pub attention: Option<&'a TextAttention>,
    /// Held-out passages, each with the nearest one of the text that was trained on.
    pub neighbors: &'a [[String; 2]],
    /// The run's resolved settings, as `config.toml` has them.
    pub config_toml: &'a str,
}

/// A passage with blanks.
#[derive(Clone, Debug)]
pub struct FilledPassage {
    /// The passage, with `[MASK]` for each blank.
    pub passage: String,
    /// The true token of each blank and the guesses, likeliest first, with their probabilities.
    pub blanks: Vec<(String, Vec<(String, f64)>)>,
}

/// How much each token of a passage attends to each.
#[derive(Clone, Debug)]
pub struct TextAttention {
    /// The tokens.
    pub tokens: Vec<String>,
    /// A row for each token: the weights of all, which add up to one.
    pub weights: Vec<Vec<f32>>,
}

/// Writes the page as `report.html` into the folder `dir` and returns its path.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_text_html(page: &TextPage, dir: &Path) -> Result<PathBuf> {
    write_whole(&dir.join("report.html"), render(page).as_bytes())
}

fn render(page: &TextPage) -> String {
    let body = html! {
        header {
            p.brand { (compass()) "Portolan" }
            h1 { (page.title) }
            p.lead { (page.lead) }
        }
        main {
            section { h2 { "Results" } (results(page.results)) }
            section { h2 { "Training" } (charts(page.metrics)) }
            @if !page.filled.is_empty() { section { h2 { "Blanks" } (blanks(page.filled)) } }
            @if !page.samples.is_empty() { section { h2 { "Samples" } (pairs(page.samples)) } }
            @if let Some(attention) = page.attention {
                section {
                    h2 { "Attention" }
                    p.lead {
                        "What each token (row) attends to in the last block, on average over its \
                         heads: the darker, the more."
                    }
                    (attended(attention))
                }
            }
            @if !page.neighbors.is_empty() {
                section {
                    h2 { "Nearest passages" }
                    p.lead {
                        "Held-out passages, each above the passage of the text trained on whose \
                         feature is most similar."
                    }
                    (pairs(page.neighbors))
                }
            }
            section { h2 { "Settings" } pre { (page.config_toml) } }
        }
    };
    document(page.title, &body, env!("CARGO_PKG_VERSION"))
}

/// What was measured, its value, and what to compare it with, as a table.
pub(crate) fn results(rows: &[[String; 3]]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Results" { table {
            thead { tr { th scope="col" { "" } th scope="col" { "here" } th scope="col" { "beside" } } }
            tbody {
                @for [what, value, beside] in rows {
                    tr { th scope="row" { (what) } td { (value) } td { (beside) } }
                }
            }
        } }
    }
}

fn charts(metrics: &[MetricsRow]) -> Markup {
    let wide = [
        curve(metrics, names::LOSS, "Loss", WIDE),
        curve(metrics, names::LEARNING_RATE, "Learning rate", SMALL),
    ];
    html! {
        @if metrics.is_empty() { p.missing { "Nothing was logged during this run." } }
        div.charts { @for chart in wide.iter().filter_map(|chart| chart.render()) { (chart) } }
        div.charts.small { @for chart in others(metrics) { (chart) } }
    }
}

fn blanks(passages: &[FilledPassage]) -> Markup {
    html! { @for filled in passages {
        pre { (filled.passage) }
        table { tbody { @for (truth, guesses) in &filled.blanks { tr {
            th scope="row" { (truth) }
            @for (token, probability) in guesses {
                td { (token) " " small { (format!("{:.0} %", 100.0 * probability)) } }
            }
        } } } }
    } }
}

fn attended(attention: &TextAttention) -> Markup {
    let largest = attention.weights.iter().flatten().copied().fold(f32::MIN_POSITIVE, f32::max);
    let shade = |weight: f32| {
        format!(
            "background: color-mix(in srgb, var(--sea) {:.0}%, transparent)",
            100.0 * weight / largest
        )
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Attention" { table.attention {
            thead { tr { th {} @for token in &attention.tokens { th scope="col" { (token) } } } }
            tbody { @for (token, row) in attention.tokens.iter().zip(&attention.weights) { tr {
                th scope="row" { (token) }
                @for &weight in row {
                    td style=(shade(weight)) title=(format!("{:.0} %", 100.0 * weight)) {}
                }
            } } }
        } }
    }
}

fn pairs(pairs: &[[String; 2]]) -> Markup {
    html! { @for [first, second] in pairs { p { (first) } pre { (second) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_there_is_and_escapes_it() {
        let filled = FilledPassage {
            passage: "the [MASK] & I".to_owned(),
            blanks: vec![("king".to_owned(), vec![("<duke>".to_owned(), 0.25)])],
        };
        let row = MetricsRow::new(10, 0.5, &[(names::LOSS, 3.5), ("bits_per_character", 2.0)]);
        let page = TextPage {
            title: "BERT on notes",
            lead: "Trained.",
            results: &[["accuracy".to_owned(), "31 %".to_owned(), "4 %".to_owned()]],
            metrics: &[row],
            filled: &[filled],
            samples: &[],
            attention: Some(&TextAttention {
                tokens: vec!["to".to_owned(), "be".to_owned()],
                weights: vec![vec![0.75, 0.25], vec![0.5, 0.5]],
            }),
            neighbors: &[],
            config_toml: "seed = 0",
        };
        let text = render(&page);
        for part in [
            "BERT on notes",
            "31 %",
            "[MASK] &amp; I",
            "&lt;duke&gt;",
            "25 %",
            "Loss",
            "var(--sea) 67%",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("Samples") && !text.contains("Nearest"), "left out");
    }
}
