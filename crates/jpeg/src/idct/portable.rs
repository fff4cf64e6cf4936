//! The transform for any processor, one block after the other.

use std::num::Wrapping;

use super::{CONST_BITS, DROPPED, Quantization};

type Rows = [[i16; 8]; 8];

/// The samples of two blocks.
#[inline(always)]
pub(super) fn samples(pair: &[i16; 128], quantization: &Quantization) -> [[u8; 16]; 8] {
    let mut samples = [[0; 16]; 8];
    for left in [0, 8] {
        let mut rows = Rows::default();
        for (row, numbers) in rows.iter_mut().enumerate() {
            for (column, number) in numbers.iter_mut().enumerate() {
                let at = 16 * row + left + column;
                *number = pair[at].wrapping_mul(quantization[at]);
            }
        }
        let rows = transposed(columns::<{ DROPPED[0] }>(&rows));
        let rows = transposed(columns::<{ DROPPED[1] }>(&rows));
        for (samples, row) in samples.iter_mut().zip(rows) {
            let row = row.map(|number| number.saturating_add(128).clamp(0, 255) as u8);
            samples[left..left + 8].copy_from_slice(&row);
        }
    }
    samples
}

fn transposed(rows: Rows) -> Rows {
    std::array::from_fn(|row| std::array::from_fn(|column| rows[column][row]))
}

/// Transforms every column, and drops `DROPPED` bits. A damaged file may have numbers of any size.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // the compiler vectorizes eight columns
fn columns<const DROPPED: i32>(rows: &Rows) -> Rows {
    let mut s = [[Wrapping(0i32); 8]; 8];
    for (s, row) in s.iter_mut().zip(rows) {
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
        let t0 = ((s[0][c] + s[4][c]) << CONST_BITS as usize) + half;
        let t1 = ((s[0][c] - s[4][c]) << CONST_BITS as usize) + half;
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
