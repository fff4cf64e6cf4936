//! Points that show their image when hovered over or focused by keyboard, by CSS alone.

use image::imageops::thumbnail;
use maud::{Markup, html};

use super::{Placed, SIZE};
use crate::charts::image::data_uri;
use crate::error::{Error, Result};
use crate::page::Page;

/// An image's longer side, in the SVG's units and at most in pixels.
const SIDE: u32 = 64;
/// Between a point and its image, in the SVG's units.
const GAP: f64 = 7.0;

/// The points that have an image.
pub(crate) fn all<'a>(
    page: &Page,
    points: impl Iterator<Item = &'a Placed<'a>>,
) -> Result<Vec<Markup>> {
    points.filter_map(|placed| one(page, placed).transpose()).collect()
}

fn one(page: &Page, placed: &Placed) -> Result<Option<Markup>> {
    let Some(image) = &placed.point.image else { return Ok(None) };
    let longest = image.width().max(image.height()).max(1);
    let scale = f64::from(SIDE) / f64::from(longest);
    let shown = |length: u32| (f64::from(length) * scale).round().max(1.0) as u32;
    let (width, height) = (shown(image.width()), shown(image.height()));
    let source =
        if longest > SIDE { data_uri(&thumbnail(image, width, height)) } else { data_uri(image) }
            .map_err(|source| Error::Image { image: "an image of the map".to_owned(), source })?;
    let x = beside(placed.x, f64::from(width), SIZE.0);
    let y = beside(placed.y, f64::from(height), SIZE.1);
    let class = placed.point.class;
    let name = class.map_or("test image".to_owned(), |class| page.class(class));
    let of_class = class.map_or(String::new(), |class| format!(" k{class}"));
    Ok(Some(html! {
        g class=(format!("map_thumbnail{of_class}")) tabindex="0" role="img" aria-label=(name) {
            circle cx=(format!("{:.1}", placed.x)) cy=(format!("{:.1}", placed.y)) r="4" {}
            image.hard[longest < SIDE] href=(source) x=(format!("{x:.1}")) y=(format!("{y:.1}"))
                width=(width) height=(height) {}
        }
    }))
}

/// Where an image of this length begins: after the point, or before it near the end of the plot.
fn beside(at: f64, length: f64, end: f64) -> f64 {
    if at + GAP + length <= end { at + GAP } else { at - GAP - length }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_stays_in_the_plot() {
        assert_eq!(beside(10.0, 64.0, 520.0), 17.0);
        assert_eq!(beside(500.0, 64.0, 520.0), 429.0);
    }
}
