//! How well representations encode the factors that images of `shapes` are drawn from, as a table
//! with bars.

use maud::{Markup, html};
use std::path::{Path, PathBuf};

use crate::document::{compass, document};
use crate::error::Result;
use crate::file::write_whole;

/// One representation of one run.
#[derive(Clone, Debug)]
pub struct FactorColumn {
    /// The run and the layer.
    pub title: String,
    /// The factors, the same ones in each column.
    pub rows: Vec<FactorCell>,
    /// DCI's disentanglement, 0 to 1.
    pub disentanglement: f64,
    /// DCI's completeness, 0 to 1.
    pub completeness: f64,
}

/// How a representation encodes one factor.
#[derive(Clone, Debug)]
pub struct FactorCell {
    /// The factor.
    pub factor: String,
    /// `accuracy` or `R²`.
    pub measure: String,
    /// How well a linear probe predicts it, 1 at best.
    pub read: f64,
    /// How far a change of this factor alone moves an embedding, relative to a change of kind.
    pub moved: Option<f64>,
}

/// Writes the columns side by side as a page that loads nothing, and returns its path.
///
/// # Errors
/// When the file cannot be written.
pub fn write_factors(columns: &[FactorColumn], file: &Path) -> Result<PathBuf> {
    write_whole(file, page(columns).as_bytes())
}

fn page(columns: &[FactorColumn]) -> String {
    let title = "Factors: encoded or ignored";
    let body = html! {
        header {
            p.brand { (compass()) "Portolan" }
            h1 { (title) }
            p.lead {
                "Every image of shapes is drawn from known factors. The first bar of a cell shows \
                 how well a linear probe predicts the factor on test images (accuracy, or the \
                 share of variance explained). The second shows how far a change of this factor \
                 alone moves an embedding, where a change of kind moves it by 1: the \
                 representation ignores factors with short second bars."
            }
        }
        main { section { (table(columns)) } }
    };
    document(title, &body, env!("CARGO_PKG_VERSION"))
}

fn table(columns: &[FactorColumn]) -> Markup {
    let factors = columns.first().map_or(&[][..], |column| &column.rows);
    html! {
        div.scroll tabindex="0" role="region"
            aria-label="Factors by representation" { table.factors {
            caption { "Linear probe, and relative movement" }
            thead { tr {
                th scope="col" { "Factor" }
                @for column in columns { th scope="col" { (column.title) } }
            } }
            tbody {
                @for (i, factor) in factors.iter().enumerate() { tr {
                    th scope="row" { (factor.factor) small { (factor.measure) } }
                    @for column in columns { td { (cell(&column.rows[i])) } }
                } }
                tr {
                    th scope="row" { "disentanglement" small { "DCI, of 1" } }
                    @for column in columns { td { (format!("{:.2}", column.disentanglement)) } }
                }
                tr {
                    th scope="row" { "completeness" small { "DCI, of 1" } }
                    @for column in columns { td { (format!("{:.2}", column.completeness)) } }
                }
            }
        } }
    }
}

fn cell(cell: &FactorCell) -> Markup {
    html! {
        (bar("read", cell.read))
        @if let Some(moved) = cell.moved { (bar("moved", moved)) }
    }
}

/// A number with a bar of that length.
fn bar(kind: &str, value: f64) -> Markup {
    let style = format!("width:{:.1}%", 100.0 * value.clamp(0.0, 1.0));
    html! { div class=(format!("bar {kind}")) {
        span.track aria-hidden="true" { span style=(style) {} }
        span.n { (format!("{value:.2}")) small { (kind) } }
    } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_numbers_within_their_track() {
        let column = |title: &str, read| FactorColumn {
            title: title.to_owned(),
            rows: vec![FactorCell {
                factor: "hue".to_owned(),
                measure: "R²".to_owned(),
                read,
                moved: Some(1.3),
            }],
            disentanglement: 0.2,
            completeness: 0.4,
        };
        let page = page(&[column("a <run>", 0.75), column("another", -0.1)]);
        assert!(page.contains("width:75.0%") && page.contains("0.75"));
        assert!(page.contains("width:0.0%") && page.contains("-0.10"));
        assert!(page.contains("width:100.0%") && page.contains("1.30"));
        assert!(page.contains("a &lt;run&gt;"));
    }
}
