//! The map: test embeddings in two dimensions, colored by class.

use maud::html;

use super::Section;
use crate::charts::scatter::Scatter;
use crate::error::Result;
use crate::format::count;
use crate::page::{Layout, Page};

/// The map, with a choice of class beside it.
pub(crate) fn section(page: &Page) -> Result<Section> {
    let scatter = Scatter::new(page);
    if scatter.points() == 0 {
        let body = html! { p.missing { "No map was drawn in this run." } };
        return Ok(Section { id: "map", title: "Map", lead: None, body });
    }
    let drawn = scatter.points();
    let shown = if drawn < page.map.len() {
        format!(" {} of {} points are drawn.", count(drawn as u64), count(page.map.len() as u64))
    } else {
        String::new()
    };
    let ringed = if scatter.has_images() { " A ringed point shows its image." } else { "" };
    let lead = format!("{}{ringed}{shown}", how_to_read(page.layout));
    Ok(Section { id: "map", title: "Map", lead: Some(lead), body: scatter.render()? })
}

fn how_to_read(layout: Layout) -> &'static str {
    match layout {
        Layout::Tsne => {
            "Test images laid out so that neighbors in the embedding stay neighbors (t-SNE). \
             Distances between groups, and their sizes, mean little."
        }
        Layout::PrincipalComponents => {
            "Test images along the two main directions of the embedding (principal components). \
             Classes that overlap here may still be apart in the embedding’s other directions."
        }
    }
}
