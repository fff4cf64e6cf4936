//! The segments of a file before its scan.

use crate::huffman::Table;
use crate::idct::Quantization;

/// One color channel of the frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Component {
    id: u8,
    /// Blocks of an MCU, across and down.
    pub(crate) across: usize,
    pub(crate) down: usize,
    /// The numbers of its tables: quantization, and Huffman codes of DC and AC coefficients.
    pub(crate) quantization: usize,
    pub(crate) dc: usize,
    pub(crate) ac: usize,
}

/// A frame of one scan.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) components: Vec<Component>,
    /// MCUs between two restarts; 0 without restarts.
    pub(crate) restart_interval: usize,
    /// The position of the scan's bits in the file.
    pub(crate) scan: usize,
    pub(crate) exif: Option<Vec<u8>>,
}

impl Frame {
    /// Blocks of luminance in an MCU, across and down. A sample of chrominance covers as many
    /// pixels.
    pub(crate) fn sampling(&self) -> (usize, usize) {
        (self.components[0].across, self.components[0].down)
    }

    /// MCUs across, and in all.
    pub(crate) fn mcus(&self) -> (usize, usize) {
        let (across, down) = self.sampling();
        let mcus_across = self.width.div_ceil(8 * across);
        (mcus_across, mcus_across * self.height.div_ceil(8 * down))
    }

    /// Blocks of an MCU, of all channels.
    pub(crate) fn blocks_per_mcu(&self) -> usize {
        self.components.iter().map(|component| component.across * component.down).sum()
    }

    /// MCUs of a restart interval, and the number of intervals.
    pub(crate) fn restart_intervals(&self) -> (usize, usize) {
        let mcus = self.mcus().1;
        let interval = if self.restart_interval == 0 { mcus } else { self.restart_interval };
        (interval, mcus.div_ceil(interval))
    }
}

/// The tables that a file defines. They are kept from one file to the next, since many files have
/// the same.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) quantization: [Option<Quantization>; 4],
    pub(crate) dc: [Option<Box<Table>>; 4],
    pub(crate) ac: [Option<Box<Table>>; 4],
}

/// Reads all segments up to the scan. `None` if this crate does not decode such files, or it is
/// damaged.
pub(crate) fn read(bytes: &[u8], tables: &mut Tables) -> Option<Frame> {
    let mut rest = bytes.strip_prefix(&[0xFF, 0xD8])?;
    let mut frame: Option<Frame> = None;
    let mut restart_interval = 0;
    let mut exif = None;
    let mut defined = Defined::default();
    loop {
        let [0xFF, marker, high, low, ..] = *rest else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let segment = rest.get(4..2 + length)?;
        rest = &rest[2 + length..];
        match marker {
            0xC0 | 0xC1 if frame.is_none() => frame = Some(start_of_frame(segment)?),
            0xC4 => huffman_tables(segment, tables, &mut defined)?,
            0xDB => quantization_tables(segment, tables, &mut defined)?,
            0xDD => restart_interval = usize::from(u16::from_be_bytes(segment.try_into().ok()?)),
            0xDA => {
                let mut frame = frame?;
                start_of_scan(segment, &mut frame, &defined)?;
                let scan = bytes.len() - rest.len();
                return Some(Frame { restart_interval, scan, exif, ..frame });
            }
            0xE1 if segment.starts_with(b"Exif\0\0") && exif.is_none() => {
                exif = Some(segment[6..].to_vec())
            }
            // Adobe's segment says whether colors are luminance and chrominance.
            0xEE if segment.starts_with(b"Adobe") && segment.get(11) != Some(&1) => return None,
            // Comments and other applications' data.
            0xE0..=0xEF | 0xFE => {}
            _ => return None,
        }
    }
}

/// The tables that this file has defined, so that none of another file is used.
#[derive(Debug, Default)]
struct Defined {
    quantization: [bool; 4],
    dc: [bool; 4],
    ac: [bool; 4],
}

fn start_of_frame(segment: &[u8]) -> Option<Frame> {
    let [8, h1, h0, w1, w0, count @ (1 | 3), components @ ..] = segment else { return None };
    let (height, width) = (u16::from_be_bytes([*h1, *h0]), u16::from_be_bytes([*w1, *w0]));
    if width == 0 || height == 0 || components.len() != 3 * usize::from(*count) {
        return None;
    }
    let component = |part: &[u8]| Component {
        id: part[0],
        across: usize::from(part[1] >> 4),
        down: usize::from(part[1] & 15),
        quantization: usize::from(part[2]),
        dc: 0,
        ac: 0,
    };
    let mut components: Vec<_> = components.chunks_exact(3).map(component).collect();
    match &mut components[..] {
        // A single channel has MCUs of one block, whatever the file says.
        [gray] => (gray.across, gray.down) = (1, 1),
        [luma, chroma @ ..] => {
            let whole = chroma.iter().all(|one| (one.across, one.down) == (1, 1));
            if !whole || !matches!((luma.across, luma.down), (1 | 2, 1 | 2)) {
                return None;
            }
            // Such names mean RGB without conversion.
            if [luma.id, chroma[0].id, chroma[1].id] == *b"RGB" {
                return None;
            }
        }
        [] => return None,
    }
    let (width, height) = (width.into(), height.into());
    Some(Frame { width, height, components, restart_interval: 0, scan: 0, exif: None })
}

fn start_of_scan(segment: &[u8], frame: &mut Frame, defined: &Defined) -> Option<()> {
    let [count, parts @ .., 0, 63, 0] = segment else { return None };
    if usize::from(*count) != frame.components.len() || parts.len() != 2 * frame.components.len() {
        return None;
    }
    for (component, part) in frame.components.iter_mut().zip(parts.chunks_exact(2)) {
        (component.dc, component.ac) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        let known = *defined.dc.get(component.dc)?
            && *defined.ac.get(component.ac)?
            && *defined.quantization.get(component.quantization)?;
        if component.id != part[0] || !known {
            return None;
        }
    }
    Some(())
}

fn huffman_tables(mut segment: &[u8], tables: &mut Tables, defined: &mut Defined) -> Option<()> {
    while let Some((&which, rest)) = segment.split_first() {
        let (counts, rest) = rest.split_first_chunk::<16>()?;
        let (symbols, rest) =
            rest.split_at_checked(counts.iter().map(|&n| usize::from(n)).sum())?;
        let number = usize::from(which & 15);
        let (tables, defined, new): (_, _, fn(&_, &_) -> _) = match which >> 4 {
            // Differences of DC coefficients have at most eleven bits.
            0 if symbols.iter().all(|&size| size <= 11) => {
                (&mut tables.dc, &mut defined.dc, Table::dc)
            }
            // Of the symbols without a value, only the end of the block and sixteen zeros are
            // valid.
            1 if symbols.iter().all(|&symbol| symbol & 15 > 0 || matches!(symbol, 0 | 0xF0)) => {
                (&mut tables.ac, &mut defined.ac, Table::ac)
            }
            _ => return None,
        };
        let table = tables.get_mut(number)?;
        // Each table once: a file of nothing but tables must not take long.
        if defined[number] {
            return None;
        }
        if !table.as_ref().is_some_and(|table| table.is_built_from(counts, symbols)) {
            *table = Some(new(counts, symbols)?);
        }
        defined[number] = true;
        segment = rest;
    }
    Some(())
}

fn quantization_tables(
    mut segment: &[u8],
    tables: &mut Tables,
    defined: &mut Defined,
) -> Option<()> {
    while let Some((&which, rest)) = segment.split_first() {
        let number = usize::from(which & 15);
        // Tables of 16 bits are for 12-bit images.
        let (values, rest) = (which >> 4 == 0).then(|| rest.split_first_chunk::<64>())??;
        *tables.quantization.get_mut(number)? = Some(crate::huffman::from_zigzag(values));
        defined.quantization[number] = true;
        segment = rest;
    }
    Some(())
}
