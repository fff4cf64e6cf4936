//! Huffman decoding: from bits to coefficients.

use std::ops::Range;

/// How many bits are looked up at once. Most codes with their values are shorter, and the part of
/// the table that the next look-up waits for fits into the first-level cache.
const LOOKUP_BITS: u32 = 12;

/// How many look-ups the 56 bits of a refill are enough for.
const AT_ONCE: u32 = 56 / LOOKUP_BITS;

/// Coefficients of two blocks side by side, in eight rows of sixteen, and room for writes beyond
/// them from damaged codes.
pub(crate) type Pair = [i16; 264];

/// The position in the left block of a pair of each coefficient along the zigzag. The right block's
/// is eight further. Coefficients beyond the 64th have a position beyond both blocks.
static ZIGZAG: [u8; 256] = zigzag();

const fn zigzag() -> [u8; 256] {
    let mut places = [128; 256];
    let (mut row, mut column, mut at) = (0u8, 0u8, 0);
    while at < 64 {
        places[at] = 16 * row + column;
        let up = (row + column) % 2 == 0;
        match (up, row, column) {
            (true, _, 7) => row += 1,
            (true, 0, _) => column += 1,
            (true, ..) => (row, column) = (row - 1, column + 1),
            (false, 7, _) => column += 1,
            (false, _, 0) => row += 1,
            (false, ..) => (row, column) = (row + 1, column - 1),
        }
        at += 1;
    }
    places
}

/// The result of one look-up: a value, and mostly the next one too. It is one number, from its
/// lowest bits:
///
/// - 8 bits: the bits of both, codes and values; 0 if the first has more bits than were looked up
/// - 8 bits: the bits of the first
/// - 8 bits: the number of coefficients that the first completes
/// - 8 bits: the number that both complete; without a second, the same number, and the first value
///   again
/// - 16 and 16 bits: the values
#[derive(Clone, Copy, Debug, Default)]
struct Found(u64);

impl Found {
    fn new(bits: [u32; 2], ends: [u32; 2], values: [i16; 2]) -> Self {
        let [first, second] = values.map(|value| u64::from(value as u16));
        let counts = bits[1] | bits[0] << 8 | ends[0] << 16 | ends[1] << 24;
        Self(u64::from(counts) | first << 32 | second << 48)
    }

    /// The symbol's value alone.
    fn one(symbol: u8, value: u32, bits: u32) -> Self {
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        // The end of the block completes all; a run of sixteen zeros completes sixteen.
        let ends = if symbol == 0 { 64 } else { run + 1 };
        Self::new([bits; 2], [ends; 2], [extend(value, size) as i16; 2])
    }

    /// This value and the first one of `next`, if both fit into `within` bits.
    fn and(self, next: Self, within: u32) -> Self {
        let bits = self.bits() + next.first_bits();
        if self.ends()[0] == 64 || next.bits() == 0 || bits > within {
            return self;
        }
        let ends = self.ends()[0] as u32;
        let ends = [ends, ends + next.ends()[0] as u32];
        Self::new([self.first_bits(), bits], ends, [self.values()[0], next.values()[0]])
    }

    #[inline(always)]
    fn bits(self) -> u32 {
        u32::from(self.0 as u8)
    }

    #[inline(always)]
    fn first_bits(self) -> u32 {
        u32::from((self.0 >> 8) as u8)
    }

    #[inline(always)]
    fn ends(self) -> [usize; 2] {
        [(self.0 >> 16) as u8, (self.0 >> 24) as u8].map(usize::from)
    }

    #[inline(always)]
    fn values(self) -> [i16; 2] {
        [(self.0 >> 32) as i16, (self.0 >> 48) as i16]
    }
}

/// A value of `size` bits, of which the lower half are negative numbers (T.81, figure F.12).
/// Without branches, since signs cannot be predicted.
fn extend(bits: u32, size: u32) -> i32 {
    let half = (1 << size) >> 1;
    let negative = (bits as i32 - half) >> 31;
    bits as i32 + (negative & (1 - (1 << size)))
}

/// One Huffman code of a file.
pub(crate) struct Table {
    /// By the next bits.
    lookup: [Found; 1 << LOOKUP_BITS],
    /// The number of bits in `lookup` once more: the next look-up waits only for this, and it fits
    /// into the first-level cache.
    bits: [u8; 1 << LOOKUP_BITS],
    /// By the next bits: the length of the code in the upper half, its symbol in the lower; 0 for a
    /// longer code.
    code: [u16; 1 << LOOKUP_BITS],
    /// The same for longer codes, by the difference of the next sixteen bits from the last shorter
    /// code.
    long_code: Vec<u16>,
    /// The first of those codes, as the upper of sixteen bits.
    first_long: usize,
    /// The segment that defines the code, to recognize it in the next file.
    definition: Vec<u8>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("definition", &self.definition).finish_non_exhaustive()
    }
}

impl Table {
    /// The code of DC coefficients, from the number of codes of each length in a DHT segment and
    /// their symbols. `None` if these are not a valid code.
    pub(crate) fn dc(counts: &[u8; 16], symbols: &[u8]) -> Option<Box<Self>> {
        let mut table = Box::new(Self {
            lookup: [Found::default(); 1 << LOOKUP_BITS],
            bits: [0; 1 << LOOKUP_BITS],
            code: [0; 1 << LOOKUP_BITS],
            long_code: Vec::new(),
            first_long: 0,
            definition: [counts, symbols].concat(),
        });
        let (mut code, mut symbols) = (0u32, symbols.iter());
        for (length, &count) in (1..).zip(counts) {
            code <<= 1;
            if length == LOOKUP_BITS + 1 {
                table.first_long = (code as usize) << (16 - length);
                table.long_code = vec![0; (1 << 16) - table.first_long + 1];
            }
            for symbol in symbols.by_ref().take(count.into()) {
                // A code of only ones is not allowed, nor any beyond it.
                if code + 1 >= 1 << length {
                    return None;
                }
                table.enter(code, length, *symbol);
                code += 1;
            }
        }
        table.count_bits();
        symbols.next().is_none().then_some(table)
    }

    /// The code of AC coefficients. They follow each other in the same code, so that one look-up
    /// can find two.
    pub(crate) fn ac(counts: &[u8; 16], symbols: &[u8]) -> Option<Box<Self>> {
        const MASK: usize = (1 << LOOKUP_BITS) - 1;
        let mut table = Self::dc(counts, symbols)?;
        let one = table.lookup;
        for (bits, found) in table.lookup.iter_mut().enumerate() {
            *found = found.and(one[bits << found.bits() & MASK], LOOKUP_BITS);
        }
        table.count_bits();
        Some(table)
    }

    fn count_bits(&mut self) {
        for (bits, found) in self.bits.iter_mut().zip(&self.lookup) {
            *bits = found.bits() as u8;
        }
    }

    pub(crate) fn is_built_from(&self, counts: &[u8; 16], symbols: &[u8]) -> bool {
        self.definition[..16] == *counts && self.definition[16..] == *symbols
    }

    /// Writes a code into the tables, followed by every value that fits.
    fn enter(&mut self, code: u32, length: u32, symbol: u8) {
        let all = |bits: u32| {
            (code << (bits - length)) as usize..((code + 1) << (bits - length)) as usize
        };
        let entry = (length << 8) as u16 | u16::from(symbol);
        if length > LOOKUP_BITS {
            let Range { start, end } = all(16);
            self.long_code[start + 1 - self.first_long..end + 1 - self.first_long].fill(entry);
            return;
        }
        self.code[all(LOOKUP_BITS)].fill(entry);
        let size = u32::from(symbol & 15);
        let Some(left) = (LOOKUP_BITS - length).checked_sub(size) else { return };
        for value in 0..1 << size {
            let from = ((code << size | value) << left) as usize;
            self.lookup[from..from + (1 << left)].fill(Found::one(symbol, value, length + size));
        }
    }

    /// Decodes a value with more bits than were looked up, from the highest of these bits on. The
    /// result has no bits if there is no such code.
    #[cold]
    fn long(&self, held: u64) -> Found {
        let short = self.code[(held >> (64 - LOOKUP_BITS)) as usize];
        let long = ((held >> 48) as usize + 1).saturating_sub(self.first_long);
        // One of the two is 0. Without a branch, since it cannot be predicted which.
        let code = short | self.long_code.get(long).unwrap_or(&0);
        let (length, symbol) = (u32::from(code >> 8), code as u8);
        let size = u32::from(symbol & 15);
        let value = ((held << length) >> 32) >> (32 - size);
        Found::one(symbol, value as u32, length + size)
    }
}

/// Bits of a restart interval without stuffed bytes, followed by at least eight more bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest on.
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, held: 0, count: 0 }
    }

    /// Whether at most `len` bytes were read.
    pub(crate) fn within(&self, len: usize) -> bool {
        8 * self.at - self.count as usize <= 8 * len
    }

    /// Makes at least 56 bits ready.
    #[inline(always)]
    fn refill(&mut self) {
        // `within` detects reads beyond the end.
        let at = self.at.min(self.bytes.len() - 8);
        if let Some(next) = self.bytes[at..].first_chunk() {
            self.held |= u64::from_be_bytes(*next) >> self.count;
        }
        self.at += (63 - self.count as usize) >> 3;
        self.count |= 56;
    }

    #[inline(always)]
    fn skip(&mut self, bits: u8) {
        self.held <<= bits & 63;
        self.count -= u32::from(bits);
    }

    /// The position `count` bits earlier.
    #[cold]
    fn before(self, count: u32) -> Self {
        let at = 8 * self.at - self.count as usize - count as usize;
        let mut bits = Self { bytes: self.bytes, at: at / 8, held: 0, count: 0 };
        bits.refill();
        bits.held <<= at % 8;
        bits.count -= at as u32 % 8;
        bits
    }

    /// The next values of this code; `None` if the bits are no code. At least `LOOKUP_BITS` bits
    /// have to be ready.
    #[inline(always)]
    fn next(&mut self, table: &Table) -> Option<Found> {
        let next = (self.held >> (64 - LOOKUP_BITS)) as usize;
        let bits = table.bits[next];
        if bits > 0 {
            self.skip(bits);
            return Some(table.lookup[next]);
        }
        self.refill();
        let found = table.long(self.held);
        self.skip(found.bits() as u8);
        self.refill();
        (found.bits() > 0).then_some(found)
    }

    /// Reads the coefficients of a block that is all zeros, the left or right half of a pair. The
    /// DC coefficient is the difference from the block before. Returns the last position along the
    /// zigzag that may not be zero; `None` if the bits are no block.
    #[inline(always)]
    pub(crate) fn block(
        &mut self,
        dc: &Table,
        ac: &Table,
        block: &mut [i16; 256],
    ) -> Option<usize> {
        let mut bits = *self; // a copy stays in registers
        bits.refill();
        block[0] = bits.next(dc)?.values()[0];
        let mut at = 0;
        let last = 'block: loop {
            bits.refill();
            for _ in 0..AT_ONCE {
                let found = bits.next(ac)?;
                let [one, two] = found.ends().map(|ends| at + ends);
                block[position(one)] = found.values()[0];
                block[position(two)] = found.values()[1];
                if two < 63 {
                    at = two;
                    continue;
                }
                if one > 63 && found.ends()[0] < 64 {
                    return None; // more zeros than a block holds
                }
                if one == 63 && two > 63 {
                    // The second value belongs to the next block.
                    bits = bits.before(found.bits() - found.first_bits());
                }
                break 'block if two == 63 {
                    63
                } else if one > 63 {
                    at
                } else {
                    one
                };
            }
        };
        *self = bits;
        Some(last)
    }
}

/// The position in its block of a coefficient along the zigzag.
#[inline(always)]
fn position(at: usize) -> usize {
    usize::from(ZIGZAG[at & 255])
}

/// A quantization table for two blocks side by side, from its values along the zigzag.
pub(crate) fn from_zigzag(values: &[u8; 64]) -> [i16; 128] {
    let mut table = [0; 128];
    for (&place, &value) in ZIGZAG.iter().zip(values) {
        table[usize::from(place)] = i16::from(value);
        table[usize::from(place) + 8] = i16::from(value);
    }
    table
}
