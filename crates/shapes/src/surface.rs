//! What a surface looks like before the light falls on it: patterns, noise and color.

use serde::{Deserialize, Serialize};
use std::f32::consts::TAU;

/// A surface pattern: 0 shows the object's paint, 1 its ink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// Bands across the object.
    Stripes,
    /// Round dots on a square grid.
    Dots,
    /// A checkerboard.
    Checks,
    /// Concentric circles about a point near the object's middle.
    Ripples,
    /// Irregular blots.
    Marble,
}

/// How much of the ink shows at `(x, y)` of the object's own coordinates, 0 to 1.
///
/// `frequency` is in periods per unit of length, `phase` in periods; `coverage`, 0 to 1, shifts the
/// balance between ink and ground.
pub(super) fn ink(
    pattern: Pattern,
    x: f32,
    y: f32,
    frequency: f32,
    phase: [f32; 2],
    coverage: f32,
) -> f32 {
    let (u, v) = (x * frequency + phase[0], y * frequency + phase[1]);
    // A smooth height from -1 to 1. Ink covers heights above a threshold.
    let height = match pattern {
        Pattern::Stripes => wave(v),
        Pattern::Dots => 0.5 * (wave(u) + wave(v)),
        Pattern::Checks => wave(0.5 * u) * wave(0.5 * v) * 2.0,
        Pattern::Ripples => {
            let (a, b) = (x - 0.4 * (phase[0] - 0.5), y - 0.4 * (phase[1] - 0.5));
            wave((a * a + b * b).sqrt() * frequency)
        }
        // The phase moves the window far enough that no two objects share their blots.
        Pattern::Marble => {
            4.0 * noise(1.5 * u + 60.0 * phase[0], 1.5 * v + 60.0 * phase[1], 2) - 2.0
        }
    };
    smoothstep((height + 2.0 * (coverage - 0.5)) / 0.5 + 0.5)
}

/// Smooth noise from 0 to 1 of mean 0.5, in `octaves` layers: each is twice as fine and half as
/// strong as the one before.
pub(super) fn noise(x: f32, y: f32, octaves: u32) -> f32 {
    let (mut sum, mut total, mut scale, mut strength) = (0.0, 0.0, 1.0, 1.0);
    for octave in 0..octaves {
        sum += strength * lattice_noise(x * scale, y * scale, octave);
        total += strength;
        scale *= 2.0;
        strength *= 0.5;
    }
    sum / total
}

/// One layer: random values on the whole numbers, smoothly interpolated.
fn lattice_noise(x: f32, y: f32, octave: u32) -> f32 {
    let (column, row) = (x.floor(), y.floor());
    let (right, down) = (smoothstep(x - column), smoothstep(y - row));
    let value = |dx: i32, dy: i32| lattice_value(column as i32 + dx, row as i32 + dy, octave);
    mix(mix(value(0, 0), value(1, 0), right), mix(value(0, 1), value(1, 1), right), down)
}

/// A fixed random number, 0 to 1, for each point of the lattice.
fn lattice_value(column: i32, row: i32, octave: u32) -> f32 {
    let mut bits =
        (column as u32).wrapping_mul(0x9E37_79B1) ^ (row as u32).wrapping_mul(0x85EB_CA77);
    bits = (bits ^ octave.wrapping_mul(0xC2B2_AE3D)).wrapping_mul(0x2C1B_3C6D);
    bits = (bits ^ (bits >> 15)).wrapping_mul(0x297A_2D39);
    bits ^= bits >> 15;
    (bits >> 8) as f32 / (1 << 24) as f32
}

/// Red, green and blue, 0 to 1, of a hue (in turns, any number), a saturation and a value (0 to 1).
pub(super) fn rgb(hue: f32, saturation: f32, value: f32) -> [f32; 3] {
    [5.0, 3.0, 1.0].map(|offset: f32| {
        let k = (offset + hue * 6.0).rem_euclid(6.0);
        value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

/// `a` where `share` is 0, `b` where it is 1.
pub(super) fn mix(a: f32, b: f32, share: f32) -> f32 {
    a + (b - a) * share
}

/// 0 up to 0, 1 from 1 on, and a smooth step in between.
pub(super) fn smoothstep(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A sine of period 1.
fn wave(turns: f32) -> f32 {
    libm::sinf(TAU * turns)
}
