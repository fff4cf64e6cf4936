//! The scan: all blocks of all channels, in units.

use std::ops::Range;

use memchr::memchr;
use multiversion::multiversion;

use crate::color::Plane;
use crate::header::{Component, Frame, Tables};
use crate::huffman::{Bits, Pair, Table};
use crate::idct::{self, Quantization};

/// Zeros behind the bits, so that eight bytes can be read wherever there is one left.
const PADDING: usize = 8;

/// The bits of a scan without stuffed bytes and markers, and where the stretches between restarts end. `None` where there are not
/// so many stretches, and where something else than the end of the image follows, or nothing.
pub(crate) fn unstuff(
    scan: &[u8],
    stretches: usize,
    bits: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> Option<()> {
    bits.clear();
    ends.clear();
    let mut rest = scan;
    loop {
        let at = memchr(0xFF, rest)?;
        bits.extend_from_slice(&rest[..at]);
        match *rest.get(at + 1)? {
            0 => bits.push(0xFF),
            // A restart, numbered from 0 to 7.
            marker @ 0xD0..=0xD7
                if usize::from(marker - 0xD0) == ends.len() % 8 && ends.len() < stretches =>
            {
                ends.push(bits.len())
            }
            0xD9 => break,
            _ => return None,
        }
        rest = &rest[at + 2..];
    }
    ends.push(bits.len());
    bits.extend([0; PADDING]);
    (ends.len() == stretches).then_some(())
}

/// The most pairs of blocks that two units make: four blocks of luminance and two of chrominance each.
const MOST_PAIRS: usize = 6;

/// A channel with its tables.
struct Channel<'a> {
    component: Component,
    quantization: &'a Quantization,
    first: &'a Table,
    others: &'a Table,
}

fn channels<'a>(frame: &Frame, tables: &'a Tables) -> Option<Vec<Channel<'a>>> {
    let with_tables = |&component: &Component| {
        Some(Channel {
            component,
            quantization: tables.quantization[component.quantization].as_ref()?,
            first: tables.first[component.first].as_ref()?,
            others: tables.others[component.others].as_ref()?,
        })
    };
    frame.components.iter().map(with_tables).collect()
}

/// Reads the blocks of one unit, the left (0) or the right (1) of two, into pairs that are all zeros there.
#[inline(always)]
fn read_unit(
    bits: &mut Bits,
    channels: &[Channel],
    before: &mut [i16; 3],
    side: usize,
    pairs: &mut [(Pair, usize)],
) -> Option<()> {
    let mut row = 0;
    for (channel, before) in channels.iter().zip(before) {
        let Component { across, down, .. } = channel.component;
        for _ in 0..down {
            for column in side * across..(side + 1) * across {
                let (pair, last) = pairs.get_mut(row + column / 2)?;
                let block = pair[column % 2 * 8..].first_chunk_mut()?;
                *last = bits.block(channel.first, channel.others, block)?.max(*last);
                block[0] = block[0].wrapping_add(*before);
                *before = block[0];
            }
            row += across;
        }
    }
    Some(())
}

/// Writes the levels of two units' blocks into the planes: of the `x`-th two of the units' row `y`.
#[inline(always)]
fn transform_units(
    channels: &[Channel],
    pairs: &[(Pair, usize)],
    (x, y): (usize, usize),
    planes: &mut [Plane; 3],
) {
    let mut pairs = pairs.iter();
    for (channel, plane) in channels.iter().zip(planes) {
        let Component { across, down, .. } = channel.component;
        for row in y * down..(y + 1) * down {
            for column in x * across..(x + 1) * across {
                let Some((pair, last)) = pairs.next() else { return };
                let (at, stride) = (8 * row * plane.stride + 16 * column, plane.stride);
                let (quantization, levels) = (channel.quantization, &mut plane.levels);
                match last {
                    0 => idct::level(pair, quantization, levels, at, stride),
                    _ => idct::levels(pair, quantization, levels, at, stride),
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
    let (units_across, units) = frame.units();
    // A block takes two bits at the least: what announces more than there are is not even made room for.
    if 2 * units * frame.blocks() > 8 * bits.len() {
        return None;
    }
    for (plane, component) in planes.iter_mut().zip(&frame.components) {
        plane.stride = 16 * units_across.div_ceil(2) * component.across;
        plane.width = (frame.width * component.across).div_ceil(across);
        plane.height = (frame.height * component.down).div_ceil(down);
        let levels = plane.stride * 8 * component.down * (units / units_across);
        plane.levels.resize(levels.max(plane.levels.len()), 0);
    }
    // Chrominance reaches one of its levels further. Columns are counted in two units each.
    let unit_columns =
        columns.start.saturating_sub(2) / (16 * across)..(columns.end + 2).div_ceil(16 * across);
    let unit_rows = rows.start.saturating_sub(2) / (8 * down)..(rows.end + 2).div_ceil(8 * down);

    let (interval, _) = frame.stretches();
    let channels = channels(frame, tables)?;
    let pairs = &mut [([0; 264], 0); MOST_PAIRS];
    let pairs = &mut pairs[..frame.blocks()];
    let (mut begin, mut x, mut y) = (0usize, 0usize, 0usize);
    // Nobody looks at what is below.
    let needed = units.min(units_across * unit_rows.end);
    for (n, &end) in ends[..needed.div_ceil(interval)].iter().enumerate() {
        let mut bits = Bits::new(&bits[begin..]);
        let mut before = [0i16; 3];
        for _ in n * interval..((n + 1) * interval).min(needed) {
            if x.is_multiple_of(2) {
                pairs.iter_mut().for_each(|(pair, last)| {
                    pair[..128].fill(0);
                    *last = 0;
                });
            }
            read_unit(&mut bits, &channels, &mut before, x % 2, pairs)?;
            let complete = x % 2 == 1 || x + 1 == units_across;
            if complete && unit_columns.contains(&(x / 2)) && unit_rows.contains(&y) {
                transform_units(&channels, pairs, (x / 2, y), planes);
            }
            x += 1;
            if x == units_across {
                (x, y) = (0, y + 1);
            }
        }
        if !bits.within(end - begin) {
            return None;
        }
        begin = end;
    }
    Some(())
}
