//! Masks and depth maps in PNG files.

use image::{ImageBuffer, Luma};
use png::{BitDepth, ColorType, Decoder, Transformations};
use portolan_shapes::DepthMap;
use std::io::Cursor;

use super::item::{ClassMap, IGNORED};
use crate::decode::MAX_PIXELS;
use crate::error::{Error, Result, ensure};

/// How a mask's numbers become classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbering {
    /// 0 is the first class, and the greatest number (255, or 65,535 with 16 bits) is ignored, as
    /// in Pascal VOC.
    FromZero,
    /// 0 is ignored too, and 1 is the first class, as in ADE20K.
    FromOne,
}

/// Millimeters in a meter: the unit of depth maps as NYU Depth v2 and most tools write them.
const UNIT: f32 = 1000.0;

/// The samples of a gray or palette PNG: numbers of the palette are not turned into colors.
struct Samples {
    width: u32,
    height: u32,
    /// Whether they have 16 bits.
    wide: bool,
    values: Vec<u16>,
}

/// The classes in the bytes of a mask: a PNG in gray or with a palette, of 1 to 16 bits.
pub(super) fn read_classes(bytes: &[u8], numbering: Numbering) -> Result<ClassMap> {
    let Samples { width, height, wide, mut values } = read(bytes, "mask")?;
    let ignored = if wide { u16::MAX } else { u16::from(u8::MAX) };
    for value in &mut values {
        *value = match (*value, numbering) {
            (value, _) if value == ignored => IGNORED,
            (0, Numbering::FromOne) => IGNORED,
            (value, Numbering::FromOne) => value - 1,
            (value, Numbering::FromZero) => value,
        };
    }
    Ok(map(width, height, values))
}

/// The depth in meters in the bytes of a depth map: a gray PNG of 16 bits in millimeters.
pub(super) fn read_depth(bytes: &[u8]) -> Result<DepthMap> {
    let Samples { width, height, wide, values } = read(bytes, "depth map")?;
    ensure!(
        wide,
        Unsupported,
        "the depth map has 8 bits or fewer; depth in millimeters needs a gray PNG of 16 bits"
    );
    Ok(map(width, height, values.into_iter().map(|value| f32::from(value) / UNIT).collect()))
}

/// `values` are as many as the pixels.
fn map<T: image::Primitive>(width: u32, height: u32, values: Vec<T>) -> ImageBuffer<Luma<T>, Vec<T>>
where
    Luma<T>: image::Pixel<Subpixel = T>,
{
    ImageBuffer::from_raw(width, height, values).expect("a value for each pixel")
}

fn read(bytes: &[u8], what: &str) -> Result<Samples> {
    let failed = |why: png::DecodingError| Error::Damaged(format!("the {what} is no PNG: {why}"));
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(failed)?;
    let (width, height) = (reader.info().width, reader.info().height);
    let (color, bits) = reader.output_color_type();
    ensure!(
        matches!(color, ColorType::Grayscale | ColorType::Indexed),
        Unsupported,
        "the {what} has colors; save it as a gray PNG, or one with a palette, whose numbers are \
         the values"
    );
    ensure!(
        u64::from(width) * u64::from(height) <= MAX_PIXELS,
        Unsupported,
        "the {what} has {width}×{height} pixels, and more than {MAX_PIXELS} are not decoded"
    );
    let mut raw = vec![0; reader.output_buffer_size().unwrap_or(0)];
    let frame = reader.next_frame(&mut raw).map_err(failed)?;
    let rows = raw.chunks_exact(frame.line_size.max(1)).take(height as usize);
    let values: Vec<u16> = rows.flat_map(|row| unpacked(row, bits, width as usize)).collect();
    ensure!(
        values.len() as u64 == u64::from(width) * u64::from(height),
        Damaged,
        "the {what} is cut short"
    );
    Ok(Samples { width, height, wide: bits == BitDepth::Sixteen, values })
}

/// The first `width` samples of a row: PNG packs those of fewer than 8 bits from the left.
fn unpacked(row: &[u8], bits: BitDepth, width: usize) -> Vec<u16> {
    match bits {
        BitDepth::Sixteen => {
            let pairs = row.chunks_exact(2);
            pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]])).take(width).collect()
        }
        BitDepth::Eight => row.iter().map(|&byte| u16::from(byte)).take(width).collect(),
        BitDepth::One | BitDepth::Two | BitDepth::Four => {
            let bits = bits as usize;
            let each = 8 / bits;
            let sample = |i: usize| {
                let byte = u16::from(*row.get(i / each)?);
                Some((byte >> (8 - bits * (i % each + 1))) & ((1 << bits) - 1))
            };
            (0..width).map_while(sample).collect()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    /// A PNG of these raw rows. A palette has 256 gray colors in reverse order.
    pub(in crate::dense) fn png(
        (width, height): (u32, u32),
        color: ColorType,
        bits: BitDepth,
        rows: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(bits);
        if color == ColorType::Indexed {
            let colors = 1usize << (bits as usize);
            encoder
                .set_palette((0..colors).flat_map(|i| [(255 - i) as u8; 3]).collect::<Vec<u8>>());
        }
        encoder.write_header().unwrap().write_image_data(rows).unwrap();
        bytes
    }

    fn values(map: &ClassMap) -> Vec<u16> {
        map.as_raw().clone()
    }

    #[test]
    fn palette_numbers_are_the_classes_and_255_is_ignored() {
        let mask = png((3, 2), ColorType::Indexed, BitDepth::Eight, &[0, 1, 255, 20, 2, 0]);
        let map = read_classes(&mask, Numbering::FromZero).unwrap();
        assert_eq!((map.dimensions(), values(&map)), ((3, 2), vec![0, 1, IGNORED, 20, 2, 0]));
        let map = read_classes(&mask, Numbering::FromOne).unwrap();
        assert_eq!(values(&map), [IGNORED, 0, IGNORED, 19, 1, IGNORED]);
    }

    #[test]
    fn samples_of_any_depth_are_read() {
        // 5 samples of 1, 2 and 4 bits: the rest of a row is padding.
        for (bits, row, wanted) in [
            (BitDepth::One, vec![0b0110_1000], [0u16, 1, 1, 0, 1]),
            (BitDepth::Two, vec![0b0110_1100, 0b0100_0000], [1, 2, 3, 0, 1]),
            (BitDepth::Four, vec![0x1F, 0x07, 0x30], [1, 15, 0, 7, 3]),
        ] {
            let mask = png((5, 1), ColorType::Grayscale, bits, &row);
            assert_eq!(values(&read_classes(&mask, Numbering::FromZero).unwrap()), wanted);
        }
        let wide = png((3, 1), ColorType::Grayscale, BitDepth::Sixteen, &[0, 255, 255, 255, 1, 0]);
        let map = read_classes(&wide, Numbering::FromZero).unwrap();
        assert_eq!(values(&map), [255, IGNORED, 256]);
    }

    #[test]
    fn depth_is_in_meters() {
        let bytes = png((2, 1), ColorType::Grayscale, BitDepth::Sixteen, &[0x04, 0xD2, 0, 0]);
        assert_eq!(read_depth(&bytes).unwrap().as_raw(), &[1.234, 0.0]);
        let narrow = png((2, 1), ColorType::Grayscale, BitDepth::Eight, &[4, 0]);
        assert!(read_depth(&narrow).unwrap_err().to_string().contains("16 bits"));
    }

    #[test]
    fn what_is_no_map_is_an_error() {
        let complaint =
            |bytes: &[u8]| read_classes(bytes, Numbering::FromZero).unwrap_err().to_string();
        let mask = png((2, 2), ColorType::Indexed, BitDepth::Eight, &[0, 1, 2, 3]);
        assert!(complaint(b"words").contains("no PNG"));
        assert!(complaint(&mask[..mask.len() - 20]).contains("PNG"));
        let colors = png((1, 1), ColorType::Rgb, BitDepth::Eight, &[1, 2, 3]);
        assert!(complaint(&colors).contains("colors"));
    }
}
