//! Test images with their nearest training images.

use maud::{Markup, html};

use super::Section;
use crate::charts::image::image;
use crate::error::Result;
use crate::page::{Neighbor, Neighbors, Page};

const QUERY_SIDE: u32 = 96;
const NEIGHBOR_SIDE: u32 = 72;

/// Each test image with its nearest training images in a row.
pub(crate) fn section(page: &Page) -> Result<Section> {
    let rows = page.neighbors.iter().map(|of| row(page, of)).collect::<Result<Vec<_>>>()?;
    let labeled = page.neighbors.iter().any(|row| row.label.is_some());
    let body = html! {
        @if rows.is_empty() { p.missing { "No neighbors were computed in this run." } }
        ol.neighbors { @for row in rows { li { (row) } } }
    };
    let lead = (!page.neighbors.is_empty()).then(|| {
        let marks = if labeled { " A dashed frame marks another class." } else { "" };
        format!(
            "Test images, and the training images whose embeddings are most similar to theirs \
             (cosine similarity below).{marks}"
        )
    });
    Ok(Section { id: "neighbors", title: "Neighbors", lead, body })
}

fn row(page: &Page, row: &Neighbors) -> Result<Markup> {
    let name = row.label.map(|label| page.class(label));
    let query = image(&row.image, QUERY_SIDE, &alt("Test image", name.as_deref()))?;
    let nearest = row
        .nearest
        .iter()
        .map(|near| neighbor(page, near, row.label))
        .collect::<Result<Vec<_>>>()?;
    Ok(html! {
        figure.query {
            (query)
            figcaption {
                @if let Some(name) = name { b { (name) } }
                (verdict(page, row))
            }
        }
        div.nearest { @for neighbor in nearest { (neighbor) } }
    })
}

fn neighbor(page: &Page, near: &Neighbor, label: Option<usize>) -> Result<Markup> {
    let name = near.label.map(|label| page.class(label));
    let shown = image(&near.image, NEIGHBOR_SIDE, &alt("Training image", name.as_deref()))?;
    let other = label.is_some() && near.label != label;
    Ok(html! {
        figure.other[other] {
            (shown)
            figcaption {
                @if let Some(name) = name { span { (name) } }
                small { (format!("{:.2}", near.similarity)) }
            }
        }
    })
}

/// `Test image of class cat`.
fn alt(what: &str, class: Option<&str>) -> String {
    class.map_or(what.to_owned(), |class| format!("{what} of class {class}"))
}

fn verdict(page: &Page, row: &Neighbors) -> Markup {
    html! {
        @match (row.label, row.predicted) {
            (Some(label), Some(predicted)) if label == predicted => small.right { "✓ correct" },
            (Some(_), Some(predicted)) => small.wrong { "✗ predicted " (page.class(predicted)) },
            (None, Some(predicted)) => small { "predicted " (page.class(predicted)) },
            (_, None) => {},
        }
    }
}
