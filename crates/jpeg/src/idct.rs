//! The inverse cosine transform, to the bit as libjpeg's accurate one (`jidctint.c`, after Loeffler, Ligtenberg and Moschytz 1989).

use std::num::Wrapping;

use multiversion::multiversion;

use crate::huffman::Block;

/// One quantisation table, in rows of eight.
pub(crate) type Quantisation = [i16; 64];

type Rows = [[i16; 8]; 8];

/// Fractional bits of the constants.
const CONST_BITS: usize = 13;
/// Bits that are kept between the two passes.
const PASS_BITS: usize = 2;

/// The levels of a block of coefficients, in `plane` from `at` on, whose rows are `stride` apart. Beyond the first `N` rows and
/// columns, 4 or 8, its coefficients are zero.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn levels<const N: usize>(
    block: &Block,
    quantisation: &Quantisation,
    plane: &mut [u8],
    at: usize,
    stride: usize,
) {
    let mut rows: Rows = Default::default();
    for (row, values) in rows.iter_mut().enumerate().take(N) {
        for (column, value) in values.iter_mut().enumerate() {
            let i = 8 * row + column;
            *value = block[i].wrapping_mul(quantisation[i]);
        }
    }
    let rows = transposed(columns::<N, { CONST_BITS - PASS_BITS }>(&rows));
    let rows = transposed(columns::<N, { CONST_BITS + PASS_BITS + 3 }>(&rows));
    for (row, values) in rows.iter().enumerate() {
        let out = &mut plane[at + row * stride..][..8];
        for (out, value) in out.iter_mut().zip(values) {
            *out = value.saturating_add(128).clamp(0, 255) as u8;
        }
    }
}

/// The same of a block that has its first coefficient alone.
pub(crate) fn level(
    first: i16,
    quantisation: &Quantisation,
    plane: &mut [u8],
    at: usize,
    stride: usize,
) {
    let level = ((i32::from(first.wrapping_mul(quantisation[0])) + 4) >> 3) + 128;
    for row in 0..8 {
        plane[at + row * stride..][..8].fill(level.clamp(0, 255) as u8);
    }
}

/// Columns as rows: three times, the first half of the rows and the second are zipped.
#[inline(always)]
fn transposed(mut rows: Rows) -> Rows {
    for _ in 0..3 {
        let [a, b, c, d, e, f, g, h] = rows;
        let ([a, b], [c, d], [e, f], [g, h]) = (zip(a, e), zip(b, f), zip(c, g), zip(d, h));
        rows = [a, b, c, d, e, f, g, h];
    }
    rows
}

#[inline(always)]
fn zip(a: [i16; 8], b: [i16; 8]) -> [[i16; 8]; 2] {
    [
        [a[0], b[0], a[1], b[1], a[2], b[2], a[3], b[3]],
        [a[4], b[4], a[5], b[5], a[6], b[6], a[7], b[7]],
    ]
}

/// Transforms every column, whose numbers beyond the first `N` are zero, and takes `DROPPED` bits away. The numbers are as large as a damaged file makes them.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // eight columns at once, which the compiler makes one
fn columns<const N: usize, const DROPPED: usize>(rows: &Rows) -> Rows {
    let mut s = [[Wrapping(0i32); 8]; 8];
    for (s, row) in s.iter_mut().zip(rows).take(N) {
        for (s, &value) in s.iter_mut().zip(row) {
            *s = Wrapping(i32::from(value));
        }
    }
    let half = Wrapping(1 << (DROPPED - 1));
    for c in 0..8 {
        // Even part.
        let z1 = (s[2][c] + s[6][c]) * Wrapping(4433); // 0.541196100
        let t2 = z1 - s[6][c] * Wrapping(15137); // 1.847759065
        let t3 = z1 + s[2][c] * Wrapping(6270); // 0.765366865
        let t0 = ((s[0][c] + s[4][c]) << CONST_BITS) + half;
        let t1 = ((s[0][c] - s[4][c]) << CONST_BITS) + half;
        let (e0, e1, e2, e3) = (t0 + t3, t1 + t2, t1 - t2, t0 - t3);
        // Odd part.
        let (t0, t1, t2, t3) = (s[7][c], s[5][c], s[3][c], s[1][c]);
        let z5 = (t0 + t2 + t1 + t3) * Wrapping(9633); // 1.175875602
        let z1 = (t0 + t3) * Wrapping(-7373); // 0.899976223
        let z2 = (t1 + t2) * Wrapping(-20995); // 2.562915447
        let z3 = (t0 + t2) * Wrapping(-16069) + z5; // 1.961570560
        let z4 = (t1 + t3) * Wrapping(-3196) + z5; // 0.390180644
        let o3 = t0 * Wrapping(2446) + z1 + z3; // 0.298631336
        let o2 = t1 * Wrapping(16819) + z2 + z4; // 2.053119869
        let o1 = t2 * Wrapping(25172) + z2 + z3; // 3.072711026
        let o0 = t3 * Wrapping(12299) + z1 + z4; // 1.501321110
        (s[0][c], s[7][c]) = (e0 + o0, e0 - o0);
        (s[1][c], s[6][c]) = (e1 + o1, e1 - o1);
        (s[2][c], s[5][c]) = (e2 + o2, e2 - o2);
        (s[3][c], s[4][c]) = (e3 + o3, e3 - o3);
    }
    let mut out = Rows::default();
    for (out, s) in out.iter_mut().zip(&s) {
        for (out, s) in out.iter_mut().zip(s) {
            *out = (s.0 >> DROPPED).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        }
    }
    out
}
