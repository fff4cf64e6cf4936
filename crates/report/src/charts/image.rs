//! Images as data URIs: small, and sharp where they are enlarged.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::thumbnail;
use image::{GrayImage, ImageError, ImageFormat, RgbImage};
use maud::{Markup, html};
use std::io::Cursor;

use crate::error::{Error, Result};

/// Images up to this many pixels a side are stored exactly (PNG); larger ones become JPEG.
const EXACT_SIDE: u32 = 64;
const JPEG_QUALITY: u8 = 85;

/// An `<img>` about `side` CSS pixels large, with its alternative text.
///
/// A small image is enlarged by a whole factor without smoothing; a large one is shrunk to twice
/// `side`, enough for dense screens.
pub(crate) fn image(image: &RgbImage, side: u32, alt: &str) -> Result<Markup> {
    let (width, height) = image.dimensions();
    let longest = width.max(height).max(1);
    let factor = side / longest;
    let scale = if factor >= 1 { f64::from(factor) } else { f64::from(side) / f64::from(longest) };
    let shown = |length: u32| (f64::from(length) * scale).round().max(1.0) as u32;
    let source = if longest > 2 * side {
        data_uri(&thumbnail(image, shown(width) * 2, shown(height) * 2))
    } else {
        data_uri(image)
    }
    .map_err(|source| Error::Image {
        image: format!("the image \"{alt}\" ({width} × {height} pixels)"),
        source,
    })?;
    Ok(html! {
        img.hard[factor > 1] src=(source) width=(shown(width)) height=(shown(height)) alt=(alt);
    })
}

/// The image as a `data:` URI.
pub(crate) fn data_uri(image: &RgbImage) -> Result<String, ImageError> {
    let mut bytes = Vec::new();
    let kind = if image.width().max(image.height()) <= EXACT_SIDE {
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
        "png"
    } else {
        JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(image)?;
        "jpeg"
    };
    Ok(uri(kind, &bytes))
}

/// A gray image as a `data:` URI, stored exactly.
pub(crate) fn gray_uri(image: &GrayImage) -> Result<String, ImageError> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
    Ok(uri("png", &bytes))
}

fn uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:image/{kind};base64,{}", STANDARD.encode(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn attributes(width: u32, height: u32) -> String {
        let tag = image(&RgbImage::new(width, height), 80, "a <cat>").unwrap().into_string();
        let start = tag.find("\" width").unwrap();
        format!("{}{}", &tag[..tag.find("src").unwrap()], &tag[start + 2..])
    }

    #[test]
    fn small_images_are_enlarged_by_a_whole_factor_and_large_ones_shrunk() {
        let alt = "alt=\"a &lt;cat&gt;\">";
        assert_eq!(
            attributes(32, 32),
            format!("<img class=\"hard\" width=\"64\" height=\"64\" {alt}")
        );
        assert_eq!(
            attributes(224, 112),
            format!("<img class=\"\" width=\"80\" height=\"40\" {alt}")
        );
    }

    #[test]
    fn small_images_are_kept_exactly() {
        let image = RgbImage::from_fn(32, 20, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
        let uri = data_uri(&image).unwrap();
        let bytes = STANDARD.decode(uri.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        assert_eq!(image::load_from_memory(&bytes).unwrap().to_rgb8(), image);
    }

    #[test]
    fn an_image_without_pixels_is_an_error_that_names_it() {
        let error = image(&RgbImage::new(0, 0), 80, "view 1").unwrap_err();
        assert!(error.to_string().contains("view 1"), "{error}");
    }

    #[test]
    fn a_photograph_costs_little() {
        let photo =
            RgbImage::from_fn(3000, 2000, |x, y| image::Rgb([(x / 9) as u8, (y / 9) as u8, 9]));
        assert!(image(&photo, 80, "").unwrap().into_string().len() < 12_000);
    }
}
