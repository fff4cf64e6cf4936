//! Huffman's code: from bits to coefficients.

/// So many bits are looked up at once. Most codes with their values are shorter, and the tables stay in the first cache.
const LOOKUP_BITS: u32 = 11;

/// So many values can be looked up without making more bits ready than the 56 there are.
const AT_ONCE: u32 = 56 / LOOKUP_BITS;

/// Coefficients of a block, 64 in rows of eight, and room for what a damaged code would write beyond them.
pub(crate) type Block = [i16; 128];

/// Where the coefficient of each place along the zigzag lies in its block; places beyond the 64th lie beyond it.
static ZIGZAG: [u8; 128] = zigzag();

const fn zigzag() -> [u8; 128] {
    let mut places = [64; 128];
    let (mut row, mut column, mut at) = (0u8, 0u8, 0);
    while at < 64 {
        places[at] = 8 * row + column;
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

/// What one look-up finds: a value, and mostly the one after it too.
#[derive(Clone, Copy, Default)]
struct Found {
    /// How many bits they take, codes and values; none where the first takes more than were looked at.
    bits: u8,
    /// How many of these are the first's.
    first_bits: u8,
    /// How many coefficients each ends; the second none where there is no second, and then its value is the first's again.
    ends: [u8; 2],
    values: [i16; 2],
}

impl Found {
    /// The symbol's value alone.
    fn one(symbol: u8, value: u32, bits: u32) -> Self {
        let (run, size) = (symbol >> 4, u32::from(symbol & 15));
        // The end of the block ends all; sixteen zeros end sixteen, of which the last is zero too.
        let ends = if symbol == 0 { 64 } else { run + 1 };
        let (bits, value) = (bits as u8, extend(value, size) as i16);
        Self { bits, first_bits: bits, ends: [ends, 0], values: [value; 2] }
    }

    /// This value and the one of `next`, where `within` bits hold both.
    fn and(self, next: Self, within: u32) -> Self {
        let bits = self.bits + next.first_bits;
        if self.ends[0] == 64 || next.bits == 0 || u32::from(bits) > within {
            return self;
        }
        let (ends, values) = ([self.ends[0], next.ends[0]], [self.values[0], next.values[0]]);
        Self { bits, first_bits: self.first_bits, ends, values }
    }
}

/// A value of `size` bits: the lower half of them stands for negative numbers (T.81, figure F.12).
fn extend(bits: u32, size: u32) -> i32 {
    if size > 0 && bits < 1 << (size - 1) { bits as i32 - (1 << size) + 1 } else { bits as i32 }
}

/// One code of a file.
pub(crate) struct Table {
    /// By the next bits.
    lookup: Box<[Found; 1 << LOOKUP_BITS]>,
    /// By the next bits: the length of the code in the upper half, its symbol in the lower; 0 where it is longer than that.
    code: Box<[u16; 1 << LOOKUP_BITS]>,
    /// By length: the first code beyond those of the length, in the upper of 16 bits.
    beyond: [u32; 17],
    /// By length: what has to be added to a code to find its symbol.
    offset: [i32; 17],
    symbols: [u8; 256],
    /// What it was made of, to be known again.
    made_of: Vec<u8>,
}

impl Table {
    /// The code of first coefficients, from a DHT segment's numbers of codes of each length and their symbols. `None` where these
    /// are no code.
    pub(crate) fn of_first(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            lookup: Box::new([Found::default(); 1 << LOOKUP_BITS]),
            code: Box::new([0; 1 << LOOKUP_BITS]),
            beyond: [0; 17],
            offset: [0; 17],
            symbols: [0; 256],
            made_of: [counts, symbols].concat(),
        };
        table.symbols.get_mut(..symbols.len())?.copy_from_slice(symbols);
        let (mut code, mut first) = (0u32, 0usize);
        for length in 1..=16 {
            let count = usize::from(counts[length - 1]);
            table.offset[length] = first as i32 - code as i32;
            for &symbol in symbols.get(first..first + count)? {
                // A code of ones alone is not allowed, nor one beyond it.
                if code + 1 >= 1 << length {
                    return None;
                }
                table.enter(code, length as u32, symbol);
                code += 1;
            }
            first += count;
            table.beyond[length] = code << (16 - length);
            code <<= 1;
        }
        (first == symbols.len()).then_some(table)
    }

    /// The same of the other coefficients, of which one follows the other in the same code.
    pub(crate) fn of_others(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        const MASK: usize = (1 << LOOKUP_BITS) - 1;
        let mut table = Self::of_first(counts, symbols)?;
        let one = table.lookup.clone();
        for (bits, found) in table.lookup.iter_mut().enumerate() {
            *found = found.and(one[bits << found.bits & MASK], LOOKUP_BITS);
        }
        Some(table)
    }

    pub(crate) fn is_made_of(&self, counts: &[u8; 16], symbols: &[u8]) -> bool {
        self.made_of[..16] == *counts && self.made_of[16..] == *symbols
    }

    /// Writes a code into the table of what follows it, with every value that fits there.
    fn enter(&mut self, code: u32, length: u32, symbol: u8) {
        let Some(left) = LOOKUP_BITS.checked_sub(length) else { return };
        let all = (code << left) as usize..((code + 1) << left) as usize;
        self.code[all].fill((length << 8) as u16 | u16::from(symbol));
        let size = u32::from(symbol & 15);
        let Some(left) = left.checked_sub(size) else { return };
        for value in 0..1 << size {
            let from = ((code << size | value) << left) as usize;
            self.lookup[from..from + (1 << left)].fill(Found::one(symbol, value, length + size));
        }
    }

    /// A value that takes more bits than were looked at; of no bits if it is none. It is the first of these bits, the first of
    /// them highest.
    #[cold]
    fn long(&self, held: u64) -> Found {
        let (length, symbol) = match self.code[(held >> (64 - LOOKUP_BITS)) as usize] {
            0 => {
                let next = (held >> 48) as u32;
                let length = (1..=16).find(|&n| next < self.beyond[n]);
                let Some(length) = length else { return Found::default() };
                let code = (next >> (16 - length)) as i32;
                (length as u32, self.symbols[(code + self.offset[length]) as usize & 255])
            }
            code => (u32::from(code >> 8), code as u8),
        };
        let size = u32::from(symbol & 15);
        let value = (held << length).checked_shr(64 - size).unwrap_or(0) as u32;
        Found::one(symbol, value, length + size)
    }
}

/// Bits of a stretch of the scan without stuffed bytes, behind which there are eight bytes at least.
#[derive(Clone, Copy)]
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

    /// Whether no more was read than `len` bytes hold.
    pub(crate) fn within(&self, len: usize) -> bool {
        8 * self.at - self.count as usize <= 8 * len
    }

    /// Makes at least 56 bits ready.
    #[inline(always)]
    fn refill(&mut self) {
        // What is read beyond the end is found out by `within`.
        let at = self.at.min(self.bytes.len() - 8);
        if let Some(next) = self.bytes[at..].first_chunk() {
            self.held |= u64::from_be_bytes(*next) >> self.count;
        }
        self.at += (63 - self.count as usize) >> 3;
        self.count |= 56;
    }

    #[inline(always)]
    fn skip(&mut self, count: u8) {
        self.held <<= count & 63;
        self.count -= u32::from(count);
    }

    /// The next values of this code; of no bits if there are none. As many bits as are looked up have to be ready, and more are
    /// afterwards if the value was a long one.
    #[inline(always)]
    fn next(&mut self, table: &Table) -> Found {
        let mut found = table.lookup[(self.held >> (64 - LOOKUP_BITS)) as usize];
        if found.bits == 0 {
            self.refill();
            found = table.long(self.held);
            self.skip(found.bits);
            self.refill();
        } else {
            self.skip(found.bits);
        }
        found
    }

    /// Reads a block's coefficients: the first as its difference from the one before it. The last place along the zigzag
    /// that may not be zero comes back, `None` where the bits are no block.
    #[inline(always)]
    pub(crate) fn block(
        &mut self,
        first: &Table,
        others: &Table,
        block: &mut Block,
    ) -> Option<usize> {
        block[..64].fill(0);
        let mut bits = *self; // a copy stays in registers
        bits.refill();
        let found = bits.next(first);
        block[0] = found.values[0];
        let mut damaged = found.bits == 0;
        let (mut at, mut last) = (0, 0);
        while at < 63 && !damaged {
            bits.refill();
            for _ in 0..AT_ONCE {
                let before = bits;
                let found = bits.next(others);
                damaged |= found.bits == 0;
                let one = at + usize::from(found.ends[0]);
                let two = one + usize::from(found.ends[1]);
                block[place(one)] = found.values[0];
                block[place(two)] = found.values[1];
                if two >= 63 {
                    last = if one > 63 { at } else { one };
                    if one == 63 && found.ends[1] > 0 {
                        // The second is the next block's.
                        bits = before;
                        bits.skip(found.first_bits);
                    } else if two == 63 {
                        last = two;
                    }
                    at = two;
                    break;
                }
                at = two;
            }
        }
        *self = bits;
        (!damaged).then_some(last)
    }
}

/// Where the coefficient of this place along the zigzag lies in its block.
#[inline(always)]
fn place(at: usize) -> usize {
    usize::from(ZIGZAG[at & 127] & 127)
}

/// A quantisation table as it lies in a file, along the zigzag, in rows of eight.
pub(crate) fn from_zigzag(values: &[u8; 64]) -> [i16; 64] {
    let mut table = [0; 64];
    for (&place, &value) in ZIGZAG.iter().zip(values) {
        table[usize::from(place)] = i16::from(value);
    }
    table
}
