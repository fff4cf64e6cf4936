//! A fast JPEG decoder for photographs, bit-exact with libjpeg, that can decode a region.
//!
//! ```
//! let picture = image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([4 * x as u8, 5 * y as u8, 90]));
//! let mut bytes = Vec::new();
//! jpeg_encoder::Encoder::new(&mut bytes, 95).encode(picture.as_raw(), 64, 48, jpeg_encoder::ColorType::Rgb)?;
//!
//! let whole = portolan_jpeg::decode(&bytes, |header| Some(header.whole())).expect("an ordinary JPEG");
//! let part = portolan_jpeg::decode(&bytes, |_| Some((10..30, 5..25))).expect("an ordinary JPEG");
//! assert_eq!(whole.dimensions(), part.dimensions());
//! assert_eq!(whole.get_pixel(29, 24), part.get_pixel(29, 24));
//! # Ok::<(), jpeg_encoder::EncodingError>(())
//! ```
//!
//! Training reads the same photographs again and again and looks at a part of each, and decoding takes most of the time between a
//! file and its views. The decoders that others keep are made for every file; this one is for those that cameras and data sets
//! have: sequential, eight bits, Huffman's code, one scan, gray or luminance and chrominance. What is anything else, or damaged,
//! is answered `None`, and is another decoder's. Three things make it fast: a code and its value are found in one look-up, the
//! blocks that no view shows are read but not transformed, and two blocks are transformed at once with the processor's products in pairs.
//!
//! Its levels are those of libjpeg's default settings, to the bit, and so of Pillow's, through which the published results
//! read their pictures.

mod color;
mod header;
mod huffman;
mod idct;
mod scan;

use std::cell::RefCell;
use std::ops::Range;

use image::RgbImage;

use color::{Plane, Rows};
use header::Tables;

/// What is known of a file before it is decoded.
pub struct Header {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Its EXIF data, where it has some.
    pub exif: Option<Vec<u8>>,
}

/// Columns and rows of a picture.
pub type Area = (Range<u32>, Range<u32>);

impl Header {
    /// All columns and all rows.
    pub fn whole(&self) -> Area {
        (0..self.width, 0..self.height)
    }
}

/// What is kept from one file to the next.
#[derive(Default)]
struct Workspace {
    tables: Tables,
    bits: Vec<u8>,
    ends: Vec<usize>,
    planes: [Plane; 3],
    rows: Rows,
}

/// A buffer beyond so many bytes is not kept: one huge picture must not take memory from all that follow.
const KEPT: usize = 1 << 24;

impl Workspace {
    fn give_back(&mut self) {
        let planes = self.planes.iter_mut().map(|plane| &mut plane.levels);
        for buffer in planes.chain([&mut self.bits]).filter(|buffer| buffer.capacity() > KEPT) {
            *buffer = Vec::new();
        }
        if self.ends.capacity() > KEPT / size_of::<usize>() {
            self.ends = Vec::new();
        }
    }
}

/// The pixels of a JPEG, as they lie in it (its EXIF orientation is not applied). `wanted` says of which the colors are needed: the
/// others may be black. What of the area lies beyond the picture is left out.
///
/// `None` where the file is not of the kind that is decoded here, where it is damaged, and where `wanted` says so.
pub fn decode(bytes: &[u8], wanted: impl FnOnce(&Header) -> Option<Area>) -> Option<RgbImage> {
    thread_local! {
        static WORKSPACE: RefCell<Workspace> = RefCell::default();
    }
    WORKSPACE.with_borrow_mut(|workspace| {
        let image = decode_in(workspace, bytes, wanted);
        workspace.give_back();
        image
    })
}

fn decode_in(
    workspace: &mut Workspace,
    bytes: &[u8],
    wanted: impl FnOnce(&Header) -> Option<Area>,
) -> Option<RgbImage> {
    let Workspace { tables, bits, ends, planes, rows } = workspace;
    let mut frame = header::read(bytes, tables)?;
    let (_, stretches) = frame.stretches();
    scan::unstuff(&bytes[frame.scan..], stretches, bits, ends)?;
    let (width, height) = (frame.width as u32, frame.height as u32);
    let header = Header { width, height, exif: frame.exif.take() };
    let (columns, lines) = wanted(&header)?;
    let within =
        |range: Range<u32>, end: u32| range.start.min(end) as usize..range.end.min(end) as usize;
    let (columns, lines) = (within(columns, width), within(lines, height));
    scan::planes(&frame, tables, (bits, ends), (columns.clone(), lines.clone()), planes)?;

    // Every pixel is written once, those that nobody looks at as black.
    let mut pixels = Vec::with_capacity(3 * frame.width * frame.height);
    pixels.resize(3 * frame.width * lines.start, 0);
    if !columns.is_empty() {
        for y in lines {
            pixels.resize(3 * (y * frame.width + columns.start), 0);
            match frame.components.len() {
                1 => color::gray(&planes[0], y, columns.clone(), &mut pixels),
                _ => color::rgb(planes, frame.sampling(), y, columns.clone(), rows, &mut pixels),
            }
        }
    }
    pixels.resize(3 * frame.width * frame.height, 0);
    RgbImage::from_raw(width, height, pixels)
}
