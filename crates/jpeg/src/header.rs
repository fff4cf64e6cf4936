//! What stands before the scan: the segments of a file.

use crate::huffman::Table;
use crate::idct::Quantization;

/// One color channel of the frame.
#[derive(Clone, Copy)]
pub(crate) struct Component {
    id: u8,
    /// Blocks of a unit of the scan, across and down.
    pub(crate) across: usize,
    pub(crate) down: usize,
    /// Which quantization and Huffman tables are its.
    pub(crate) quantization: usize,
    pub(crate) first: usize,
    pub(crate) others: usize,
}

/// A frame of one scan, and where the scan's bits begin.
pub(crate) struct Frame {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) components: Vec<Component>,
    /// Units between two restarts, 0 where there is none.
    pub(crate) restart_interval: usize,
    pub(crate) scan: usize,
    pub(crate) exif: Option<Vec<u8>>,
}

impl Frame {
    /// Blocks of luminance in a unit of the scan, across and down: so many pixels has a level of chrominance.
    pub(crate) fn sampling(&self) -> (usize, usize) {
        (self.components[0].across, self.components[0].down)
    }

    /// Units across, and in all.
    pub(crate) fn units(&self) -> (usize, usize) {
        let (across, down) = self.sampling();
        let units_across = self.width.div_ceil(8 * across);
        (units_across, units_across * self.height.div_ceil(8 * down))
    }

    /// Blocks of a unit, of all channels.
    pub(crate) fn blocks(&self) -> usize {
        self.components.iter().map(|component| component.across * component.down).sum()
    }

    /// Units from one restart to the next, and the number of such stretches.
    pub(crate) fn stretches(&self) -> (usize, usize) {
        let units = self.units().1;
        let interval = if self.restart_interval == 0 { units } else { self.restart_interval };
        (interval, units.div_ceil(interval))
    }
}

/// The tables that a file defines, kept from one file to the next: many share theirs.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) quantization: [Option<Quantization>; 4],
    pub(crate) first: [Option<Box<Table>>; 4],
    pub(crate) others: [Option<Box<Table>>; 4],
}

/// Reads all segments up to the scan. `None` where the file is not of the kind that is decoded here, or damaged.
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
            // Adobe's segment says whether colors are luminance and chrominance; where it says otherwise, others decode it.
            0xEE if segment.starts_with(b"Adobe") && segment.get(11) != Some(&1) => return None,
            // Comments and other applications' data.
            0xE0..=0xEF | 0xFE => {}
            _ => return None,
        }
    }
}

/// Which tables this file has defined, so that none of another file is used.
#[derive(Default)]
struct Defined {
    quantization: [bool; 4],
    first: [bool; 4],
    others: [bool; 4],
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
        first: 0,
        others: 0,
    };
    let mut components: Vec<_> = components.chunks_exact(3).map(component).collect();
    match &mut components[..] {
        // A channel by itself has units of one block, whatever it says.
        [gray] => (gray.across, gray.down) = (1, 1),
        [luma, chroma @ ..] => {
            let whole = chroma.iter().all(|one| (one.across, one.down) == (1, 1));
            if !whole || !matches!((luma.across, luma.down), (1 | 2, 1 | 2)) {
                return None;
            }
            // Files without a segment of JFIF's or Adobe's that name their channels so hold them as they are.
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
        (component.first, component.others) =
            (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        let known = *defined.first.get(component.first)?
            && *defined.others.get(component.others)?
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
            // Differences of first coefficients are of eleven bits at most.
            0 if symbols.iter().all(|&size| size <= 11) => {
                (&mut tables.first, &mut defined.first, Table::of_first)
            }
            // Of the symbols without a value only the end of the block and sixteen zeros mean something.
            1 if symbols.iter().all(|&symbol| symbol & 15 > 0 || matches!(symbol, 0 | 0xF0)) => {
                (&mut tables.others, &mut defined.others, Table::of_others)
            }
            _ => return None,
        };
        let table = tables.get_mut(number)?;
        // A table is made once, or a file of nothing but tables would take its time.
        if defined[number] {
            return None;
        }
        if !table.as_ref().is_some_and(|table| table.is_made_of(counts, symbols)) {
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
        // Tables of 16 bits are for 12-bit pictures.
        let (values, rest) = (which >> 4 == 0).then(|| rest.split_first_chunk::<64>())??;
        *tables.quantization.get_mut(number)? = Some(crate::huffman::from_zigzag(values));
        defined.quantization[number] = true;
        segment = rest;
    }
    Some(())
}
