//! A fast JPEG decoder for photographs, bit-exact with libjpeg, that can decode a region.
//!
//! ```
//! use image::{Rgb, RgbImage};
//! use jpeg_encoder::{ColorType, Encoder};
//!
//! let image = RgbImage::from_fn(64, 48, |x, y| Rgb([4 * x as u8, 5 * y as u8, 90]));
//! let mut bytes = Vec::new();
//! Encoder::new(&mut bytes, 95).encode(image.as_raw(), 64, 48, ColorType::Rgb)?;
//!
//! let whole = portolan_jpeg::decode(&bytes, |header| Some(header.whole())).expect("a usual JPEG");
//! let part = portolan_jpeg::decode(&bytes, |_| Some((10..30, 5..25))).expect("a usual JPEG");
//! assert_eq!(whole.dimensions(), part.dimensions());
//! assert_eq!(whole.get_pixel(29, 24), part.get_pixel(29, 24));
//! # Ok::<(), jpeg_encoder::EncodingError>(())
//! ```
//!
//! # Why a decoder of its own
//!
//! Training reads the same photographs again and again, needs only a region of each, and spends
//! most of its time on decoding. Other decoders are made for every file. This one is for the files
//! of cameras and data sets: sequential, eight bits, Huffman coding, one scan, gray or luminance
//! and chrominance. It returns `None` for all others, and for damaged ones, and leaves them to
//! another decoder. It is fast for three reasons: one look-up finds a code and its value, blocks
//! outside the region are read but not transformed, and two blocks are transformed at once with
//! SIMD.
//!
//! Its pixels are bit-exact with libjpeg's default settings, and so with Pillow, which published
//! results use.

mod color;
mod header;
mod huffman;
mod idct;
mod scan;

use image::RgbImage;
use std::cell::RefCell;
use std::ops::Range;

use crate::color::{Plane, Rows};
use crate::header::Tables;

/// What a file says before its scan.
#[derive(Clone, Debug)]
pub struct Header {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Its EXIF data, if it has some.
    pub exif: Option<Vec<u8>>,
}

/// Columns and rows of an image.
pub type Area = (Range<u32>, Range<u32>);

impl Header {
    /// All columns and all rows.
    pub fn whole(&self) -> Area {
        (0..self.width, 0..self.height)
    }
}

/// Tables and buffers that are kept from one file to the next.
#[derive(Debug, Default)]
struct Workspace {
    tables: Tables,
    /// The bits of the scan, without markers.
    bits: Vec<u8>,
    /// The ends of the restart intervals.
    ends: Vec<usize>,
    planes: [Plane; 3],
    rows: Rows,
}

/// Buffers above this size are freed after each file, in bytes: one huge image must not take memory
/// forever.
const MAX_KEPT_BYTES: usize = 1 << 24;

impl Workspace {
    fn free_large_buffers(&mut self) {
        let planes = self.planes.iter_mut().map(|plane| &mut plane.samples);
        for buffer in planes.chain([&mut self.bits]) {
            if buffer.capacity() > MAX_KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
        if self.ends.capacity() > MAX_KEPT_BYTES / size_of::<usize>() {
            self.ends = Vec::new();
        }
    }
}

/// The pixels of a JPEG as stored, without applying its EXIF orientation. `wanted` returns the area
/// that is needed; other pixels may be black. The part of the area beyond the image is ignored.
///
/// `None` if this crate does not decode such files, the file is damaged, or `wanted` returns
/// `None`.
pub fn decode(bytes: &[u8], wanted: impl FnOnce(&Header) -> Option<Area>) -> Option<RgbImage> {
    thread_local! {
        static WORKSPACE: RefCell<Workspace> = RefCell::default();
    }
    WORKSPACE.with_borrow_mut(|workspace| {
        let image = decode_in(workspace, bytes, wanted);
        workspace.free_large_buffers();
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
    let (_, intervals) = frame.restart_intervals();
    scan::unstuff(&bytes[frame.scan..], intervals, bits, ends)?;
    let (width, height) = (frame.width as u32, frame.height as u32);
    let header = Header { width, height, exif: frame.exif.take() };
    let (columns, lines) = wanted(&header)?;
    let within =
        |range: Range<u32>, end: u32| range.start.min(end) as usize..range.end.min(end) as usize;
    let (columns, lines) = (within(columns, width), within(lines, height));
    scan::planes(&frame, tables, (bits, ends), (columns.clone(), lines.clone()), planes)?;

    // Every pixel is written once. Those outside the area are black.
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

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
