//! Pictures: the views that training saw, and test images with what lies nearest to them.

use anyhow::Result;
use image::RgbImage;
use maud::{Markup, html};

use crate::page::{Page, Section};
use crate::picture::picture;

const VIEW_SIDE: u32 = 72;
const QUERY_SIDE: u32 = 96;
const NEIGHBOR_SIDE: u32 = 72;

/// A training image and its views, as training saw them but for the normalization.
#[derive(Clone, Debug)]
pub struct SourceViews {
    /// The image.
    pub original: RgbImage,
    /// Its views, in the method's order.
    pub views: Vec<RgbImage>,
}

/// A test image and the training images nearest to it.
#[derive(Clone, Debug)]
pub struct Neighbors {
    /// The test image.
    pub image: RgbImage,
    /// Its class, where it has a label.
    pub label: Option<usize>,
    /// The class its neighbors vote for.
    pub predicted: Option<usize>,
    /// The nearest training images, nearest first; six to eight look best.
    pub nearest: Vec<Neighbor>,
}

/// One of the training images nearest to a test image.
#[derive(Clone, Debug)]
pub struct Neighbor {
    /// The training image.
    pub image: RgbImage,
    /// Its class, where it has a label.
    pub label: Option<usize>,
    /// Cosine similarity of the two embeddings.
    pub similarity: f64,
}

/// Each image followed by its views.
pub(crate) fn views_section(page: &Page) -> Result<Section> {
    let rows = page
        .views
        .iter()
        .enumerate()
        .map(|(i, row)| views_row(i + 1, row))
        .collect::<Result<Vec<_>>>()?;
    let body = html! {
        @if rows.is_empty() { p.missing { "No views were kept from this run." } }
        div.views { @for row in rows { (row) } }
    };
    let lead = (!page.views.is_empty())
        .then(|| "Each framed image is followed by the views that training made of it.".to_owned());
    Ok(Section { id: "views", title: "Views", lead, body })
}

fn views_row(number: usize, row: &SourceViews) -> Result<Markup> {
    let original = picture(&row.original, VIEW_SIDE, &format!("Image {number}"))?;
    let views = row
        .views
        .iter()
        .enumerate()
        .map(|(v, view)| picture(view, VIEW_SIDE, &format!("Image {number}, view {}", v + 1)))
        .collect::<Result<Vec<_>>>()?;
    Ok(html! { div.source { span.original { (original) } @for view in views { (view) } } })
}

/// Each test image with its nearest training images in a row.
pub(crate) fn neighbors_section(page: &Page) -> Result<Section> {
    let rows =
        page.neighbors.iter().map(|row| neighbors_row(page, row)).collect::<Result<Vec<_>>>()?;
    let labeled = page.neighbors.iter().any(|row| row.label.is_some());
    let body = html! {
        @if rows.is_empty() { p.missing { "No neighbors were looked up in this run." } }
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

fn neighbors_row(page: &Page, row: &Neighbors) -> Result<Markup> {
    let name = |label: Option<usize>| label.map(|label| page.class(label));
    let query = picture(&row.image, QUERY_SIDE, &format!("Test image{}", of(name(row.label))))?;
    let nearest = row
        .nearest
        .iter()
        .map(|near| {
            let image = picture(
                &near.image,
                NEIGHBOR_SIDE,
                &format!("Training image{}", of(name(near.label))),
            )?;
            let other = row.label.is_some() && near.label != row.label;
            Ok(html! {
                figure.other[other] {
                    (image)
                    figcaption {
                        @if let Some(name) = name(near.label) { span { (name) } }
                        small { (format!("{:.2}", near.similarity)) }
                    }
                }
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(html! {
        figure.query {
            (query)
            figcaption {
                @if let Some(name) = name(row.label) { b { (name) } }
                (verdict(page, row))
            }
        }
        div.nearest { @for figure in nearest { (figure) } }
    })
}

/// ` of class cat`, for an alternative text.
fn of(name: Option<String>) -> String {
    name.map_or(String::new(), |name| format!(" of class {name}"))
}

fn verdict(page: &Page, row: &Neighbors) -> Markup {
    html! {
        @match (row.label, row.predicted) {
            (Some(label), Some(predicted)) if label == predicted => small.right { "✓ recognized" },
            (Some(_), Some(predicted)) => small.wrong { "✗ taken for " (page.class(predicted)) },
            (None, Some(predicted)) => small { "taken for " (page.class(predicted)) },
            (_, None) => {},
        }
    }
}
