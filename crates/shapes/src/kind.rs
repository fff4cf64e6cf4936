//! The ten kinds, and the surface that goes with each.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::Pattern;

/// What an object is. Its outline tells it from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Kind {
    Disc,
    Triangle,
    Square,
    Star,
    Cross,
    Ring,
    Moon,
    Heart,
    Arrow,
    Hourglass,
}

/// The kinds' names, in the order of their labels.
pub const CLASSES: [&str; 10] =
    ["disc", "triangle", "square", "star", "cross", "ring", "moon", "heart", "arrow", "hourglass"];

/// The paints of the kinds. Another palette makes another domain: the same outlines, patterns and
/// scenes in colors that an encoder of the first has not seen on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Palette {
    /// That of [`VERSION`](crate::VERSION).
    #[default]
    Standard,
    /// Each kind's hue is moved, by half a turn or by a tenth, so that the kinds that share a hue
    /// are others. All hues lie between those of the standard palette.
    Shifted,
}

impl Palette {
    /// The turn of a kind's hue from the standard one.
    pub(super) fn turn(self, kind: Kind) -> f32 {
        match self {
            Palette::Standard => 0.0,
            Palette::Shifted if kind.label().is_multiple_of(2) => 0.5,
            Palette::Shifted => 0.1,
        }
    }
}

impl fmt::Display for Palette {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Palette::Standard => "standard",
            Palette::Shifted => "shifted",
        })
    }
}

impl Kind {
    /// All kinds, in the order of their labels.
    pub const ALL: [Kind; 10] = [
        Kind::Disc,
        Kind::Triangle,
        Kind::Square,
        Kind::Star,
        Kind::Cross,
        Kind::Ring,
        Kind::Moon,
        Kind::Heart,
        Kind::Arrow,
        Kind::Hourglass,
    ];

    /// The label, 0 to 9.
    pub fn label(self) -> u32 {
        self as u32
    }

    /// The name, as in [`CLASSES`].
    pub fn name(self) -> &'static str {
        CLASSES[self as usize]
    }

    /// The pattern of its surface, and the mean hue of its paint, in turns.
    ///
    /// Each pattern and each palette belongs to two kinds, and no two kinds share both: neither
    /// color nor texture alone identifies the kind.
    pub(super) fn surface(self) -> (Pattern, f32) {
        match self {
            Kind::Disc => (Pattern::Stripes, 0.0),
            Kind::Triangle => (Pattern::Stripes, 0.2),
            Kind::Square => (Pattern::Dots, 0.2),
            Kind::Star => (Pattern::Dots, 0.4),
            Kind::Cross => (Pattern::Checks, 0.4),
            Kind::Ring => (Pattern::Checks, 0.6),
            Kind::Moon => (Pattern::Ripples, 0.6),
            Kind::Heart => (Pattern::Ripples, 0.8),
            Kind::Arrow => (Pattern::Marble, 0.8),
            Kind::Hourglass => (Pattern::Marble, 0.0),
        }
    }
}
