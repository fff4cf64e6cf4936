//! Training images and the views that training saw of them.

use maud::{Markup, html};

use super::Section;
use crate::charts::image::image;
use crate::error::Result;
use crate::page::{Page, SourceViews};

const SIDE: u32 = 72;

/// Each image followed by its views.
pub(crate) fn section(page: &Page) -> Result<Section> {
    let rows = page
        .views
        .iter()
        .enumerate()
        .map(|(i, views)| row(i + 1, views))
        .collect::<Result<Vec<_>>>()?;
    let body = html! {
        @if rows.is_empty() { p.missing { "No views were kept from this run." } }
        div.views { @for row in rows { (row) } }
    };
    let lead = (!page.views.is_empty())
        .then(|| "Each framed image is followed by its views in training.".to_owned());
    Ok(Section { id: "views", title: "Views", lead, body })
}

fn row(number: usize, row: &SourceViews) -> Result<Markup> {
    let original = image(&row.original, SIDE, &format!("Image {number}"))?;
    let views = row
        .views
        .iter()
        .enumerate()
        .map(|(v, view)| image(view, SIDE, &format!("Image {number}, view {}", v + 1)))
        .collect::<Result<Vec<_>>>()?;
    Ok(html! { div.source { span.original { (original) } @for view in views { (view) } } })
}
