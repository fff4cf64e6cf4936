//! The inverse cosine transform of two blocks side by side, bit-exact with libjpeg's accurate one
//! (`jidctint.c`, after Loeffler, Ligtenberg and Moschytz 1989).

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

use multiversion::multiversion;
use multiversion::target::match_target;

use crate::huffman::Pair;

/// A quantization table for each of the two blocks, in eight rows of sixteen.
pub(crate) type Quantization = [i16; 128];

/// Fractional bits of the constants.
const CONST_BITS: i32 = 13;
/// Bits that are kept between the two passes.
const PASS_BITS: i32 = 2;
/// How many bits each pass drops.
const DROPPED: [i32; 2] = [CONST_BITS - PASS_BITS, CONST_BITS + PASS_BITS + 3];

/// Writes the samples of a pair of blocks into `plane` from `at` on, in rows that are `stride`
/// apart.
pub(crate) fn samples(
    pair: &Pair,
    quantization: &Quantization,
    plane: &mut [u8],
    at: usize,
    stride: usize,
) {
    let Some(pair) = pair.first_chunk() else { return };
    for (row, samples) in transformed(pair, quantization).iter().enumerate() {
        plane[at + row * stride..][..16].copy_from_slice(samples);
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn transformed(pair: &[i16; 128], quantization: &Quantization) -> [[u8; 16]; 8] {
    match_target! {
        "x86_64+avx2" => avx2::samples(pair, quantization),
        _ => portable::samples(pair, quantization),
    }
}

/// As [`samples`], for blocks with only DC coefficients.
pub(crate) fn constant(
    pair: &Pair,
    quantization: &Quantization,
    plane: &mut [u8],
    at: usize,
    stride: usize,
) {
    let samples = [0, 8].map(|at| {
        let sample = ((i32::from(pair[at].wrapping_mul(quantization[at])) + 4) >> 3) + 128;
        sample.clamp(0, 255) as u8
    });
    for row in 0..8 {
        plane[at + row * stride..][..8].fill(samples[0]);
        plane[at + row * stride + 8..][..8].fill(samples[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_implementations_give_the_same_samples() {
        // Knuth's generator; any numbers will do, large and small.
        let mut state = 1u64;
        let mut next = |limit: i64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 33) as i64 % (2 * limit + 1) - limit) as i16
        };
        for round in 0..300 {
            let quantization = std::array::from_fn(|_| 1 + next(7).abs());
            let limit = [3, 40, 140][round % 3];
            let pair = std::array::from_fn(|_| next(limit));
            assert_eq!(transformed(&pair, &quantization), portable::samples(&pair, &quantization));
        }
    }
}
