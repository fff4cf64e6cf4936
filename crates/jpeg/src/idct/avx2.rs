//! The transform with AVX2: sixteen numbers of a row at once, with products added in pairs
//! (`vpmaddwd`) as in libjpeg-turbo.
//!
//! It uses intrinsics, since the compiler does not reliably find these instructions for loops. Two
//! sums have sixteen bits, as in libjpeg-turbo, and overflow for coefficients that no encoder
//! writes.

use std::arch::x86_64::*;

use super::{DROPPED, Quantization};

type Rows = [__m256i; 8];

/// The samples of two blocks.
#[target_feature(enable = "avx2")]
pub(super) fn samples(pair: &[i16; 128], quantization: &Quantization) -> [[u8; 16]; 8] {
    let row = |numbers: &[i16; 128], row: usize| {
        let n = &numbers[16 * row..][..16];
        _mm256_setr_epi16(
            n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12], n[13],
            n[14], n[15],
        )
    };
    let mut rows = [_mm256_setzero_si256(); 8];
    for (i, to) in rows.iter_mut().enumerate() {
        *to = _mm256_mullo_epi16(row(pair, i), row(quantization, i));
    }
    let rows = transposed(columns::<{ DROPPED[0] }>(rows));
    let rows = transposed(columns::<{ DROPPED[1] }>(rows));
    let middle = _mm256_set1_epi8(-128);
    let mut samples = [[0; 16]; 8];
    for (samples, row) in samples.iter_mut().zip(rows) {
        let row = _mm256_packs_epi16(row, row);
        let row = _mm256_permute4x64_epi64::<0b1000>(_mm256_xor_si256(row, middle));
        let row = _mm256_castsi256_si128(row);
        let halves = [_mm_cvtsi128_si64(row), _mm_extract_epi64::<1>(row)];
        for (to, half) in samples.as_chunks_mut().0.iter_mut().zip(halves) {
            *to = half.to_le_bytes();
        }
    }
    samples
}

/// Transforms every column, and drops `DROPPED` bits.
#[inline]
#[target_feature(enable = "avx2")]
fn columns<const DROPPED: i32>(rows: Rows) -> Rows {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = rows;
    let half = _mm256_set1_epi32(1 << (DROPPED - 1));
    // Even part.
    let (s04, s26) = (zip(s0, s4), zip(s2, s6));
    let t0 = add(weigh(s04, 8192, 8192), [half; 2]);
    let t1 = add(weigh(s04, 8192, -8192), [half; 2]);
    let t2 = weigh(s26, 4433, 4433 - 15137);
    let t3 = weigh(s26, 4433 + 6270, 4433);
    let (e0, e1, e2, e3) = (add(t0, t3), add(t1, t2), sub(t1, t2), sub(t0, t3));
    // Odd part.
    let sums = zip(_mm256_add_epi16(s7, s3), _mm256_add_epi16(s5, s1));
    let z3 = weigh(sums, 9633 - 16069, 9633);
    let z4 = weigh(sums, 9633, 9633 - 3196);
    let (s71, s53) = (zip(s7, s1), zip(s5, s3));
    let o3 = add(weigh(s71, 2446 - 7373, -7373), z3);
    let o2 = add(weigh(s53, 16819 - 20995, -20995), z4);
    let o1 = add(weigh(s53, -20995, 25172 - 20995), z3);
    let o0 = add(weigh(s71, -7373, 12299 - 7373), z4);
    [
        narrow::<DROPPED>(add(e0, o0)),
        narrow::<DROPPED>(add(e1, o1)),
        narrow::<DROPPED>(add(e2, o2)),
        narrow::<DROPPED>(add(e3, o3)),
        narrow::<DROPPED>(sub(e3, o3)),
        narrow::<DROPPED>(sub(e2, o2)),
        narrow::<DROPPED>(sub(e1, o1)),
        narrow::<DROPPED>(sub(e0, o0)),
    ]
}

/// Transposes each block, by zipping the first half of the rows and the second three times.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed(mut rows: Rows) -> Rows {
    for _ in 0..3 {
        let [a, b, c, d, e, f, g, h] = rows;
        let ([a, b], [c, d], [e, f], [g, h]) = (zip(a, e), zip(b, f), zip(c, g), zip(d, h));
        rows = [a, b, c, d, e, f, g, h];
    }
    rows
}

/// Interleaves two rows: the first half of each block, then the second.
#[inline]
#[target_feature(enable = "avx2")]
fn zip(a: __m256i, b: __m256i) -> [__m256i; 2] {
    [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)]
}

/// The sum of `a` parts of one row and `b` parts of the other, from two zipped rows.
#[inline]
#[target_feature(enable = "avx2")]
fn weigh([low, high]: [__m256i; 2], a: i16, b: i16) -> [__m256i; 2] {
    let weights = _mm256_set1_epi32(i32::from(b) << 16 | i32::from(a as u16));
    [_mm256_madd_epi16(low, weights), _mm256_madd_epi16(high, weights)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
    [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])]
}

#[inline]
#[target_feature(enable = "avx2")]
fn sub(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
    [_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])]
}

/// Drops the last bits and narrows to sixteen bits.
#[inline]
#[target_feature(enable = "avx2")]
fn narrow<const DROPPED: i32>([low, high]: [__m256i; 2]) -> __m256i {
    _mm256_packs_epi32(_mm256_srai_epi32::<DROPPED>(low), _mm256_srai_epi32::<DROPPED>(high))
}
