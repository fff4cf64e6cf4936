//! The scan: all blocks of all channels, in units.

use std::ops::Range;

use memchr::memchr;
use multiversion::multiversion;

use crate::color::Plane;
use crate::header::{Component, Frame, Tables};
use crate::huffman::{Bits, Block, Table};
use crate::idct::{self, Quantisation};

/// Zeros behind the bits, so that eight bytes can be read wherever there is one left.
const PADDING: usize = 8;

/// The bits of a scan without stuffed bytes and markers, and where the stretches between restarts end. `None` where
/// something else than the end of the image follows, or nothing.
pub(crate) fn unstuff(scan: &[u8], bits: &mut Vec<u8>, ends: &mut Vec<usize>) -> Option<()> {
    bits.clear();
    ends.clear();
    let mut rest = scan;
    loop {
        let at = memchr(0xFF, rest)?;
        bits.extend_from_slice(&rest[..at]);
        match *rest.get(at + 1)? {
            0 => bits.push(0xFF),
            // A restart, numbered from 0 to 7.
            marker @ 0xD0..=0xD7 if usize::from(marker - 0xD0) == ends.len() % 8 => {
                ends.push(bits.len())
            }
            0xD9 => break,
            _ => return None,
        }
        rest = &rest[at + 2..];
    }
    ends.push(bits.len());
    bits.extend([0; PADDING]);
    Some(())
}

/// The most blocks of a unit: four of luminance, two of chrominance.
const MOST_BLOCKS: usize = 6;

/// A channel with its tables.
struct Channel<'a> {
    component: Component,
    quantisation: &'a Quantisation,
    first: &'a Table,
    others: &'a Table,
}

fn channels<'a>(frame: &Frame, tables: &'a Tables) -> Option<Vec<Channel<'a>>> {
    let with_tables = |&component: &Component| {
        Some(Channel {
            component,
            quantisation: tables.quantisation[component.quantisation].as_ref()?,
            first: tables.first[component.first].as_ref()?,
            others: tables.others[component.others].as_ref()?,
        })
    };
    frame.components.iter().map(with_tables).collect()
}

/// Reads the blocks of one unit, and the last place of each that may not be zero.
#[inline(always)]
fn read_unit(
    bits: &mut Bits,
    channels: &[Channel],
    before: &mut [i16; 3],
    blocks: &mut [(Block, usize); MOST_BLOCKS],
) -> Option<()> {
    let mut blocks = blocks.iter_mut();
    for (channel, before) in channels.iter().zip(before) {
        for _ in 0..channel.component.across * channel.component.down {
            let (block, last) = blocks.next()?;
            *last = bits.block(channel.first, channel.others, block)?;
            block[0] = block[0].wrapping_add(*before);
            *before = block[0];
        }
    }
    Some(())
}

/// Writes the levels of a unit's blocks into the planes.
#[inline(always)]
fn transform_unit(
    channels: &[Channel],
    blocks: &[(Block, usize); MOST_BLOCKS],
    (x, y): (usize, usize),
    planes: &mut [Plane; 3],
) {
    let mut blocks = blocks.iter();
    for (channel, plane) in channels.iter().zip(planes) {
        let Component { across, down, .. } = channel.component;
        for row in y * down..(y + 1) * down {
            for column in x * across..(x + 1) * across {
                let Some((block, last)) = blocks.next() else { return };
                let (at, stride) = (8 * (row * plane.stride + column), plane.stride);
                let (quantisation, levels) = (channel.quantisation, &mut plane.levels);
                match last {
                    0 => idct::level(block[0], quantisation, levels, at, stride),
                    // The first ten places are in the first four rows and columns.
                    1..10 => idct::levels::<4>(block, quantisation, levels, at, stride),
                    _ => idct::levels::<8>(block, quantisation, levels, at, stride),
                }
            }
        }
    }
}

/// Decodes the channels' planes: all their blocks, of which those are transformed that have to do with these columns and
/// rows of the picture.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+movbe"))]
pub(crate) fn planes(
    frame: &Frame,
    tables: &Tables,
    (bits, ends): (&[u8], &[usize]),
    (columns, rows): (Range<usize>, Range<usize>),
    planes: &mut [Plane; 3],
) -> Option<()> {
    let (across, down) = frame.sampling();
    let units_across = frame.width.div_ceil(8 * across);
    let units = units_across * frame.height.div_ceil(8 * down);
    // A block takes two bits at the least: what announces more than there are is not even made room for.
    if 2 * units > 8 * bits.len() {
        return None;
    }
    for (plane, component) in planes.iter_mut().zip(&frame.components) {
        plane.stride = 8 * units_across * component.across;
        plane.width = (frame.width * component.across).div_ceil(across);
        plane.height = (frame.height * component.down).div_ceil(down);
        let levels = plane.stride * 8 * component.down * (units / units_across);
        plane.levels.resize(levels.max(plane.levels.len()), 0);
    }
    // Chrominance reaches one of its levels further.
    let unit_columns =
        columns.start.saturating_sub(2) / (8 * across)..(columns.end + 2).div_ceil(8 * across);
    let unit_rows = rows.start.saturating_sub(2) / (8 * down)..(rows.end + 2).div_ceil(8 * down);

    let interval = if frame.restart_interval == 0 { units } else { frame.restart_interval };
    if ends.len() != units.div_ceil(interval) {
        return None;
    }
    let channels = channels(frame, tables)?;
    let mut blocks = [([0; 128], 0); MOST_BLOCKS];
    let mut begin = 0;
    // Nobody looks at what is below.
    let needed = units.min(units_across * unit_rows.end);
    for (n, &end) in ends[..needed.div_ceil(interval)].iter().enumerate() {
        let mut bits = Bits::new(&bits[begin..]);
        let mut before = [0i16; 3];
        for unit in n * interval..((n + 1) * interval).min(needed) {
            read_unit(&mut bits, &channels, &mut before, &mut blocks)?;
            let (x, y) = (unit % units_across, unit / units_across);
            if unit_columns.contains(&x) && unit_rows.contains(&y) {
                transform_unit(&channels, &blocks, (x, y), planes);
            }
        }
        if !bits.within(end - begin) {
            return None;
        }
        begin = end;
    }
    Some(())
}
