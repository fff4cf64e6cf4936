//! Pictures of a correlation matrix in the course of training.

use image::GrayImage;
use maud::{Markup, PreEscaped, html};

use super::OWN;
use super::image::gray_uri;
use crate::document::{CHARTS, COLORS};
use crate::error::{Error, Result};

/// The side of a picture, the gap between two, and the height of a line of text, in CSS pixels.
const SIDE: f64 = 94.0;
const GAP: f64 = 5.0;
const LINE: f64 = 18.0;

/// What the pictures are.
const CAPTION: &str = "Cross-correlation of the outputs";
const SHADES: &str = "black is 1 or −1, white is 0";

/// The pictures of one run by the number of steps, with a name.
pub(crate) struct Row<'a> {
    pub(crate) name: String,
    pub(crate) pictures: &'a [(u64, GrayImage)],
}

/// The pictures of several runs with a caption; `None` if there are none.
pub(crate) fn figure(rows: &[Row]) -> Result<Option<Markup>> {
    let Some(drawing) = drawing(rows)? else { return Ok(None) };
    Ok(Some(html! {
        figure.chart {
            figcaption { span.name { (CAPTION) } " " span.by { (SHADES) } }
            svg viewBox=(format!("0 0 {} {}", width(rows), height(rows))) role="img"
                aria-label=(CAPTION) { (drawing) }
        }
    }))
}

/// The same as a file of its own.
pub(crate) fn standalone(rows: &[Row]) -> Result<Option<String>> {
    let Some(drawing) = drawing(rows)? else { return Ok(None) };
    let (width, height) = (width(rows), height(rows) + 28.0);
    let markup = html! {
        svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" width=(width)
            height=(height) viewBox=(format!("0 -28 {width} {height}")) {
            title { (CAPTION) }
            style { (PreEscaped(COLORS)) (PreEscaped(CHARTS)) (PreEscaped(OWN)) }
            rect.page x="0" y="-28" width=(width) height=(height) {}
            text.caption x=(GAP) y="-10" { (CAPTION) ": " (SHADES) }
            (drawing)
        }
    };
    Ok(Some(markup.into_string()))
}

fn width(rows: &[Row]) -> f64 {
    let most = rows.iter().map(|row| row.pictures.len()).max().unwrap_or(0);
    GAP + most as f64 * (SIDE + GAP)
}

fn height(rows: &[Row]) -> f64 {
    rows.len() as f64 * row_height()
}

/// A name, pictures, and steps.
fn row_height() -> f64 {
    SIDE + 2.0 * LINE + GAP
}

fn drawing(rows: &[Row]) -> Result<Option<Markup>> {
    if rows.iter().all(|row| row.pictures.is_empty()) {
        return Ok(None);
    }
    let mut all = Vec::new();
    for (r, row) in rows.iter().enumerate() {
        let top = r as f64 * row_height();
        all.push(html! { text x=(GAP) y=(top + LINE - 5.0) { (row.name) } });
        for (i, (step, picture)) in row.pictures.iter().enumerate() {
            let x = GAP + i as f64 * (SIDE + GAP);
            let source = source(picture)?;
            all.push(html! {
                image x=(x) y=(top + LINE) width=(SIDE) height=(SIDE) href=(source)
                    style="image-rendering:pixelated" {}
                text x=(x) y=(top + LINE + SIDE + LINE - 5.0) {
                    "step " (step)
                }
            });
        }
    }
    Ok(Some(html! { @for part in &all { (part) } }))
}

fn source(picture: &GrayImage) -> Result<String> {
    gray_uri(picture).map_err(|source| Error::Image { image: CAPTION.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_picture_has_its_step_and_a_file_is_small() {
        let noise = |step: u64| {
            let shade = |x: u32, y: u32| (x * 37 + y * 91 + x * y * step as u32) as u8;
            (step, GrayImage::from_fn(64, 64, |x, y| image::Luma([shade(x, y)])))
        };
        let pictures: Vec<_> = [1, 117, 234, 351, 468].map(noise).into();
        let rows = ["0", "0.005"].map(|name| Row { name: name.to_owned(), pictures: &pictures });
        let page = figure(&rows).unwrap().unwrap().into_string();
        assert_eq!(page.matches("<image").count(), 10);
        assert!(page.contains("step 234") && page.contains("0.005"), "{page}");
        let file = standalone(&rows).unwrap().unwrap();
        assert!(file.starts_with("<svg xmlns=") && file.len() < 100_000, "{}", file.len());
        assert!(figure(&[]).unwrap().is_none());
    }
}
