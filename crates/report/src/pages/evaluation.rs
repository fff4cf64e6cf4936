//! What an encoder is worth by several protocols: a table of figures, and what is taken for what.

use std::path::{Path, PathBuf};

use anyhow::Result;
use maud::{Markup, html};

use crate::json::write_whole;
use crate::page::{compass, document};

/// Classes of which a matrix is still legible; of more, the pairs confused most often are listed.
const MATRIX: usize = 20;
/// Pairs in that list.
const PAIRS: usize = 20;

/// A figure by one protocol.
#[derive(Clone, Debug)]
pub struct ProtocolFigure {
    /// The protocol and its settings.
    pub protocol: String,
    /// The figure, as it is printed.
    pub top1: String,
    /// How sure it is, or what goes with it: interval, top-5.
    pub beside: String,
    /// How many images of each class (row) were taken for each class (column), where that is known.
    pub confusion: Option<Vec<Vec<u32>>>,
}

/// Writes the figures of what `of` names, on data with these classes, as a page that loads nothing; returns its path.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_evaluation(
    of: &str,
    classes: &[String],
    figures: &[ProtocolFigure],
    file: &Path,
) -> Result<PathBuf> {
    write_whole(file, page(of, classes, figures).as_bytes())
}

fn page(of: &str, classes: &[String], figures: &[ProtocolFigure]) -> String {
    let title = format!("Evaluation of {of}");
    let body = html! {
        header {
            p.brand { (compass()) "Portolan" }
            h1 { (title) }
        }
        main {
            section { h2 { "Figures" } (table(figures)) }
            section {
                h2 { "What is taken for what" }
                p.lead { "A row is what images show, a column what they were taken for. Whole rows are 100 %." }
                @for figure in figures {
                    @if let Some(confusion) = &figure.confusion {
                        h3 { (figure.protocol) }
                        @if classes.len() <= MATRIX { (matrix(classes, confusion)) }
                        @else { (pairs(classes, confusion)) }
                    }
                }
            }
        }
    };
    document(&title, &body, env!("CARGO_PKG_VERSION"))
}

fn table(figures: &[ProtocolFigure]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Figures by protocol" { table {
            thead { tr { th scope="col" { "Protocol" } th.n scope="col" { "Top-1" } th scope="col" {} } }
            tbody { @for figure in figures { tr {
                th scope="row" { (figure.protocol) }
                td.n { (figure.top1) }
                td { (figure.beside) }
            } } }
        } }
    }
}

fn matrix(classes: &[String], confusion: &[Vec<u32>]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Confusion matrix" { table.confusion {
            thead { tr { td {} @for class in classes { th scope="col" { (class) } } } }
            tbody { @for (truth, row) in confusion.iter().enumerate() { tr {
                th scope="row" { (classes[truth]) }
                @for (taken_for, share) in shares(row).into_iter().enumerate() {
                    td.right[truth == taken_for] style=(format!("--share:{:.0}%", 100.0 * share)) {
                        @if share >= 0.0095 { (format!("{:.0}", 100.0 * share)) }
                    }
                }
            } } }
        } }
    }
}

fn shares(row: &[u32]) -> Vec<f64> {
    let all = row.iter().sum::<u32>().max(1);
    row.iter().map(|&n| f64::from(n) / f64::from(all)).collect()
}

fn pairs(classes: &[String], confusion: &[Vec<u32>]) -> Markup {
    let mut cells: Vec<(usize, usize, f64)> = Vec::new();
    for (truth, row) in confusion.iter().enumerate() {
        let wrong =
            shares(row).into_iter().enumerate().filter(|(taken_for, _)| *taken_for != truth);
        cells.extend(wrong.map(|(taken_for, share)| (truth, taken_for, share)));
    }
    cells.sort_by(|a, b| b.2.total_cmp(&a.2));
    html! { ol { @for (truth, taken_for, share) in cells.iter().take(PAIRS).filter(|cell| cell.2 > 0.0) {
        li { (classes[*truth]) " for " (classes[*taken_for]) ": " (format!("{:.1} %", 100.0 * share)) }
    } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(classes: usize) -> String {
        let names: Vec<String> = (0..classes).map(|i| format!("class <{i}>")).collect();
        let mut confusion = vec![vec![0; classes]; classes];
        confusion[0][0] = 3;
        confusion[0][1] = 1;
        let figure = ProtocolFigure {
            protocol: "linear probe".to_owned(),
            top1: "75.0 %".to_owned(),
            beside: String::new(),
            confusion: Some(confusion),
        };
        page("a run", &names, &[figure])
    }

    #[test]
    fn few_classes_make_a_matrix_of_shares_and_many_a_list_of_pairs() {
        let few = shown(3);
        assert!(few.contains("--share:75%") && few.contains("--share:25%"), "{few}");
        assert!(few.contains("class &lt;2&gt;"));
        let many = shown(30);
        assert!(
            !many.contains("--share:")
                && many.contains("class &lt;0&gt; for class &lt;1&gt;: 25.0 %"),
            "{many}"
        );
    }
}
