//! What an image is drawn from, and how that is drawn at random.

use portolan_random::Stream;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::f32::consts::FRAC_PI_2;

use crate::{Kind, Pattern};

/// Everything an image was drawn from, besides its kind.
///
/// The image reaches from -1 to 1, `x` to the right and `y` down; the object's own coordinates are
/// those, moved, turned and divided by its size. Hues are in turns, from red over yellow and green.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Factors {
    /// The object's radius.
    pub size: f32,
    /// Width over height, relative to the outline's own.
    pub aspect: f32,
    /// The object's middle, from the image's left (-1) to its right (1).
    pub x: f32,
    /// The object's middle, from the image's top (-1) to its bottom (1).
    pub y: f32,
    /// Clockwise rotation, radians; 0 is upright.
    pub rotation: f32,
    /// Whether the object is mirrored, left for right.
    pub mirrored: bool,
    /// Hue of the object's paint.
    pub hue: f32,
    /// Saturation of the paint.
    pub saturation: f32,
    /// Value (brightness) of the paint.
    pub value: f32,
    /// The pattern that is laid over the paint with ink.
    pub pattern: Pattern,
    /// Periods of the pattern per unit of the object's own length.
    pub frequency: f32,
    /// Where the pattern starts, across and down, in periods.
    pub phase: [f32; 2],
    /// How much of the surface the ink takes; at 0.5 about half.
    pub ink_coverage: f32,
    /// Hue of the ink, counted from the paint's.
    pub ink_turn: f32,
    /// Saturation of the ink.
    pub ink_saturation: f32,
    /// Value of the ink.
    pub ink_value: f32,
    /// Where the light comes from, radians: 0 from the right, π/2 from above.
    pub light: f32,
    /// Brightness of the whole image; 1 changes nothing.
    pub exposure: f32,
    /// Hue of the background.
    pub background_hue: f32,
    /// Saturation of the background.
    pub background_saturation: f32,
    /// Mean value of the background.
    pub background_value: f32,
    /// The difference in value between the background's two shades.
    pub background_contrast: f32,
    /// Which part of an endless field of clouds the background shows, 0 to 1 both ways.
    pub background_phase: [f32; 2],
}

impl Factors {
    /// Draws the factors of one object of this kind.
    ///
    /// What belongs to the kind (its pattern, and its hue within a tenth of a turn) survives the
    /// usual crops and color jitter. What tells two images of a kind apart mostly does not.
    /// Photographs are like that, and contrastive learning needs it: with free hues and busy
    /// backgrounds it would tell images apart by those and learn nothing about the kind.
    pub(super) fn sample(kind: Kind, random: &mut Stream) -> Self {
        let (pattern, hue) = kind.surface();
        let mut between = |low: f32, high: f32| low + (high - low) * unit(random);
        let size = between(SIZE.0, SIZE.1);
        Factors {
            size,
            aspect: libm::expf(between(-0.15, 0.15)),
            x: between(-0.5, 0.5),
            y: between(-0.5, 0.5),
            rotation: between(-0.45, 0.45),
            mirrored: between(0.0, 1.0) < 0.5,
            hue: (hue + between(-0.1, 0.1)).rem_euclid(1.0),
            saturation: between(0.4, 1.0),
            value: between(0.5, 1.0),
            pattern,
            frequency: between(1.4, 2.2),
            phase: [between(0.0, 1.0), between(0.0, 1.0)],
            ink_coverage: between(0.42, 0.58),
            ink_turn: 0.33 + between(-0.1, 0.1),
            ink_saturation: between(0.2, 0.9),
            ink_value: between(0.2, 0.9),
            light: FRAC_PI_2 + between(-0.4, 0.4),
            exposure: between(0.9, 1.1),
            background_hue: between(0.0, 1.0),
            background_saturation: between(0.0, 0.06),
            background_value: between(0.42, 0.58),
            background_contrast: between(0.12, 0.2),
            background_phase: [between(0.0, 1.0), between(0.0, 1.0)],
        }
    }
}

const SIZE: (f32, f32) = (0.4, 0.75);

/// A number in [0, 1) from the 24 highest bits of the stream: the same on every machine.
fn unit(random: &mut Stream) -> f32 {
    (random.next_u64() >> 40) as f32 / (1 << 24) as f32
}
