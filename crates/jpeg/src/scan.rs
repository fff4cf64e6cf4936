//! The scan: all blocks of all channels, in MCUs (minimum coded mcus).

use memchr::memchr;
use multiversion::multiversion;
use std::ops::Range;

use crate::color::Plane;
use crate::header::{Component, Frame, Tables};
use crate::huffman::{Bits, Pair, Table};
use crate::idct::{self, Quantization};

/// Zeros after the bits, so that eight bytes can be read as long as one is left.
const PADDING: usize = 8;

/// The bits of a scan without stuffed bytes and markers, and the ends of its restart intervals.
/// `None` if there is another number of intervals, or the end of the image does not follow.
pub(crate) fn unstuff(
    scan: &[u8],
    intervals: usize,
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
                if usize::from(marker - 0xD0) == ends.len() % 8 && ends.len() < intervals =>
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
    (ends.len() == intervals).then_some(())
}

/// The most pairs of blocks in two MCUs: four blocks of luminance and two of chrominance each.
const MOST_PAIRS: usize = 6;

/// A channel with its tables.
#[derive(Debug)]
struct Channel<'a> {
    component: Component,
    quantization: &'a Quantization,
    dc: &'a Table,
    ac: &'a Table,
}

fn channels<'a>(frame: &Frame, tables: &'a Tables) -> Option<Vec<Channel<'a>>> {
    let with_tables = |&component: &Component| {
        Some(Channel {
            component,
            quantization: tables.quantization[component.quantization].as_ref()?,
            dc: tables.dc[component.dc].as_ref()?,
            ac: tables.ac[component.ac].as_ref()?,
        })
    };
    frame.components.iter().map(with_tables).collect()
}

/// Reads the blocks of one MCU, the left (0) or the right (1) of two, into pairs that are all zeros
/// there.
#[inline(always)]
fn read_mcu(
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
                *last = bits.block(channel.dc, channel.ac, block)?.max(*last);
                block[0] = block[0].wrapping_add(*before);
                *before = block[0];
            }
            row += across;
        }
    }
    Some(())
}

/// Writes the samples of two MCUs into the planes: the `x`-th two of the MCU row `y`.
#[inline(always)]
fn transform_mcus(
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
                let (quantization, samples) = (channel.quantization, &mut plane.samples);
                match last {
                    0 => idct::constant(pair, quantization, samples, at, stride),
                    _ => idct::samples(pair, quantization, samples, at, stride),
                }
            }
        }
    }
}

/// Decodes the planes of all channels. All blocks are read, but only those are transformed that
/// these columns and rows of the image depend on.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+movbe"))]
pub(crate) fn planes(
    frame: &Frame,
    tables: &Tables,
    (bits, ends): (&[u8], &[usize]),
    (columns, rows): (Range<usize>, Range<usize>),
    planes: &mut [Plane; 3],
) -> Option<()> {
    let (across, down) = frame.sampling();
    let (mcus_across, mcus) = frame.mcus();
    // A block takes at least two bits. Checked before memory is reserved for a forged size.
    if 2 * mcus * frame.blocks_per_mcu() > 8 * bits.len() {
        return None;
    }
    for (plane, component) in planes.iter_mut().zip(&frame.components) {
        plane.stride = 16 * mcus_across.div_ceil(2) * component.across;
        plane.width = (frame.width * component.across).div_ceil(across);
        plane.height = (frame.height * component.down).div_ceil(down);
        let samples = plane.stride * 8 * component.down * (mcus / mcus_across);
        plane.samples.resize(samples.max(plane.samples.len()), 0);
    }
    // Upsampling reaches one sample of chrominance further. Columns count two MCUs each.
    let mcu_columns =
        columns.start.saturating_sub(2) / (16 * across)..(columns.end + 2).div_ceil(16 * across);
    let mcu_rows = rows.start.saturating_sub(2) / (8 * down)..(rows.end + 2).div_ceil(8 * down);

    let (interval, _) = frame.restart_intervals();
    let channels = channels(frame, tables)?;
    let pairs = &mut [([0; 264], 0); MOST_PAIRS];
    let pairs = &mut pairs[..frame.blocks_per_mcu()];
    let (mut begin, mut x, mut y) = (0usize, 0usize, 0usize);
    // Rows below are not needed.
    let needed = mcus.min(mcus_across * mcu_rows.end);
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
            read_mcu(&mut bits, &channels, &mut before, x % 2, pairs)?;
            let complete = x % 2 == 1 || x + 1 == mcus_across;
            if complete && mcu_columns.contains(&(x / 2)) && mcu_rows.contains(&y) {
                transform_mcus(&channels, pairs, (x / 2, y), planes);
            }
            x += 1;
            if x == mcus_across {
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
