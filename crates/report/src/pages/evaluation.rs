//! An encoder's accuracies by several protocols, and its confusion matrices.

use maud::{Markup, html};
use std::path::{Path, PathBuf};

use crate::document::{compass, document};
use crate::error::Result;
use crate::file::write_whole;
use crate::format::class_name;

/// A confusion matrix is legible up to this many classes. For more, the most frequent confusions
/// are listed instead.
const MATRIX: usize = 20;
/// Confusions in that list.
const PAIRS: usize = 20;

/// An accuracy by one protocol.
#[derive(Clone, Debug)]
pub struct ProtocolResult {
    /// The protocol and its settings.
    pub protocol: String,
    /// The top-1 accuracy, as it is printed.
    pub top1: String,
    /// What is printed beside it: confidence interval, top-5 accuracy.
    pub details: String,
    /// The confusion matrix, if known: how many images of each class (row) were predicted as each
    /// class (column).
    pub confusion: Option<Vec<Vec<u32>>>,
}

/// Writes the results of the encoder named by `of`, on data with these classes, as a page that
/// loads nothing, and returns its path.
///
/// # Errors
/// When the file cannot be written.
pub fn write_evaluation(
    of: &str,
    classes: &[String],
    results: &[ProtocolResult],
    file: &Path,
) -> Result<PathBuf> {
    write_whole(file, page(of, classes, results).as_bytes())
}

fn page(of: &str, classes: &[String], results: &[ProtocolResult]) -> String {
    let title = format!("Evaluation of {of}");
    let body = html! {
        header {
            p.brand { (compass()) "Portolan" }
            h1 { (title) }
        }
        main {
            section { h2 { "Accuracies" } (table(results)) }
            section {
                h2 { "Confusion" }
                p.lead {
                    "Rows are true classes, columns predicted ones. Each row adds up to 100 %."
                }
                @for result in results {
                    @if let Some(confusion) = &result.confusion {
                        h3 { (result.protocol) }
                        @if classes.len() <= MATRIX { (matrix(classes, confusion)) }
                        @else { (pairs(classes, confusion)) }
                    }
                }
            }
        }
    };
    document(&title, &body, env!("CARGO_PKG_VERSION"))
}

fn table(results: &[ProtocolResult]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Accuracies by protocol" { table {
            thead { tr {
                th scope="col" { "Protocol" } th.n scope="col" { "Top-1" } th scope="col" {}
            } }
            tbody { @for result in results { tr {
                th scope="row" { (result.protocol) }
                td.n { (result.top1) }
                td { (result.details) }
            } } }
        } }
    }
}

fn matrix(classes: &[String], confusion: &[Vec<u32>]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Confusion matrix" { table.confusion {
            thead { tr { td {} @for class in classes { th scope="col" { (class) } } } }
            tbody { @for (truth, row) in confusion.iter().enumerate() { tr {
                th scope="row" { (class_name(classes, truth)) }
                @for (predicted, share) in shares(row).into_iter().enumerate() {
                    td.right[truth == predicted] style=(format!("--share:{:.0}%", 100.0 * share)) {
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
            shares(row).into_iter().enumerate().filter(|(predicted, _)| *predicted != truth);
        cells.extend(wrong.map(|(predicted, share)| (truth, predicted, share)));
    }
    cells.sort_by(|a, b| b.2.total_cmp(&a.2));
    let name = |class: usize| class_name(classes, class);
    let most = cells.into_iter().take(PAIRS).filter(|cell| cell.2 > 0.0);
    html! { ol { @for (truth, predicted, share) in most {
        li { (name(truth)) " as " (name(predicted)) ": " (format!("{:.1} %", 100.0 * share)) }
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
        let result = ProtocolResult {
            protocol: "linear probe".to_owned(),
            top1: "75.0 %".to_owned(),
            details: String::new(),
            confusion: Some(confusion),
        };
        page("a run", &names, &[result])
    }

    #[test]
    fn few_classes_make_a_matrix_of_shares_and_many_a_list_of_pairs() {
        let few = shown(3);
        assert!(few.contains("--share:75%") && few.contains("--share:25%"), "{few}");
        assert!(few.contains("class &lt;2&gt;"));
        let many = shown(30);
        assert!(
            !many.contains("--share:")
                && many.contains("class &lt;0&gt; as class &lt;1&gt;: 25.0 %"),
            "{many}"
        );
    }
}
