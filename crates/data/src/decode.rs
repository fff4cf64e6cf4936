//! From the bytes of an image file to RGB pixels.

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use memchr::memchr_iter;
use portolan_jpeg::{Area, Header};
use std::io::Cursor;

use crate::error::{Error, Result, ensure};

/// The largest image that is decoded, in pixels: a forged header must not take all memory.
pub const MAX_PIXELS: u64 = 100_000_000;

/// The supported formats, for messages.
pub(crate) const FORMATS: &str = "JPEG, PNG, WebP, BMP, GIF, TIFF or PNM";

/// A block of 64 pixels takes at least one bit. A decoder would spend seconds filling missing
/// blocks with gray.
const MAX_JPEG_PIXELS_PER_BYTE: u64 = 8 * 64;

/// The pixels of a JPEG, PNG, WebP, BMP, GIF, TIFF or PNM file, upright, eight bits a channel.
///
/// The content decides the format, not the file name. Only the first frame or page is decoded. The
/// EXIF orientation is applied. Gray and palette images become RGB, CMYK and YCCK JPEGs are
/// converted without a color profile (their values are inverted, as Adobe writes them), 16 bits are
/// scaled to 8, and an alpha channel is dropped without compositing. All this is as in Pillow's
/// `convert("RGB")`, which published results use. Usual JPEGs have exactly the same values
/// (`portolan_jpeg`).
///
/// # Errors
/// If the bytes are not such an image, are cut short, or announce more than [`MAX_PIXELS`] pixels.
/// A JPEG with damaged bytes in the middle still decodes, as it does in libjpeg.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    decode_region(bytes, |width, height| (0..width, 0..height))
}

/// As [`decode`], but only the columns and rows that `wanted` returns for a width and height are
/// needed. The others may be black. `wanted` is not called for every image.
///
/// # Errors
/// As [`decode`].
pub fn decode_region(bytes: &[u8], wanted: impl FnOnce(u32, u32) -> Area) -> Result<RgbImage> {
    match usual_jpeg(bytes, wanted) {
        Some(image) => Ok(image),
        None => any_image(bytes),
    }
}

/// The format of an image that begins with these bytes (16 are enough), if it is supported.
pub(crate) fn format_of(bytes: &[u8]) -> Option<ImageFormat> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
    let format = image::guess_format(bytes).ok()?;
    matches!(format, Jpeg | Png | WebP | Bmp | Gif | Tiff | Pnm).then_some(format)
}

/// Decodes the usual kind of JPEG, fast.
fn usual_jpeg(bytes: &[u8], wanted: impl FnOnce(u32, u32) -> Area) -> Option<RgbImage> {
    let mut orientation = Orientation::NoTransforms;
    let image = portolan_jpeg::decode(bytes, |header| {
        let Header { width, height, exif } = header;
        if let Some(tagged) = exif.as_deref().and_then(Orientation::from_exif_chunk) {
            orientation = tagged;
        }
        let accepted = u64::from(*width) * u64::from(*height) <= MAX_PIXELS;
        // `wanted` speaks of the upright image.
        let upright = orientation == Orientation::NoTransforms;
        accepted.then(|| if upright { wanted(*width, *height) } else { header.whole() })
    })?;
    if orientation == Orientation::NoTransforms {
        return Some(image);
    }
    let mut image = DynamicImage::from(image);
    image.apply_orientation(orientation);
    Some(image.into_rgb8())
}

/// Decodes any supported image; an error says what the bytes are instead.
fn any_image(bytes: &[u8]) -> Result<RgbImage> {
    let Some(format) = format_of(bytes) else {
        // HEIC and AVIF use ISO's base media format, which begins with a box `ftyp`.
        let boxed = bytes.get(4..8) == Some(b"ftyp");
        let hint = if boxed { " but HEIC, AVIF or a video; convert it to JPEG" } else { "" };
        return Err(Error::Unsupported(format!("its content is not a {FORMATS} image{hint}")));
    };
    // The decoder would fill the missing part of a cut JPEG with gray and report success.
    if format == ImageFormat::Jpeg {
        check_jpeg(bytes)?;
    }

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_PIXELS * 8); // four channels of 16 bits
    reader.limits(limits);
    let failed = |source| Error::Decode { format, source };
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    ensure!(
        u64::from(width) * u64::from(height) <= MAX_PIXELS,
        Unsupported,
        "it has {width}×{height} pixels, and more than {MAX_PIXELS} are not decoded"
    );
    ensure!(
        format != ImageFormat::Jpeg
            || u64::from(width) * u64::from(height)
                <= MAX_JPEG_PIXELS_PER_BYTE * bytes.len() as u64,
        Damaged,
        "it announces {width}×{height} pixels, which its {} bytes cannot hold",
        bytes.len()
    );
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// Checks that a JPEG can be decoded as a whole: it has its own end-of-image marker, not only that
/// of a thumbnail, and has one scan unless it is progressive.
fn check_jpeg(bytes: &[u8]) -> Result<()> {
    const SEQUENTIAL: [u8; 2] = [0xC0, 0xC1];
    const SCAN: u8 = 0xDA;
    const END_OF_IMAGE: u8 = 0xD9;
    // Stuffed and fill bytes, restart and start-of-image markers have no length.
    let begins_segment = |byte: &u8| !matches!(byte, 0 | 1 | 0xD0..=0xD8 | 0xFF);
    let (mut sequential, mut scans) = (false, 0);
    let mut rest = bytes;
    while let Some(at) =
        memchr_iter(0xFF, rest).find(|at| rest.get(at + 1).is_some_and(begins_segment))
    {
        let marker = rest[at + 1];
        if marker == END_OF_IMAGE {
            // The decoder would decode the first scan and report success.
            ensure!(
                !sequential || scans <= 1,
                Unsupported,
                "the JPEG has its channels in {scans} scans, which cannot be decoded; save it anew"
            );
            return Ok(());
        }
        sequential |= SEQUENTIAL.contains(&marker);
        scans += usize::from(marker == SCAN);
        let Some(&[high, low]) = rest.get(at + 2..at + 4) else { break };
        let length = usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(at + 2 + length..).unwrap_or_default();
    }
    Err(Error::Damaged("the JPEG is cut short".to_owned()))
}

#[cfg(test)]
mod tests;
