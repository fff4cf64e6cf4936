//! The built-in data: small objects with a patterned surface, lit from above, on quiet backgrounds.
//!
//! There are ten kinds of object and nothing to download: an image is rendered when it is asked
//! for, from its seed, split and index. Each image comes with its [`Factors`], everything that it
//! was rendered from, with a mask of its object, and with the depth of its pixels
//! ([`Shapes::depth`]).
//!
//! ```
//! use portolan_shapes::{Kind, Shapes, Split};
//!
//! let shapes = Shapes::new(Split::Train, 10_000, 32, 0)?;
//! let rendered = shapes.render(3); // the label is the index modulo 10
//! assert_eq!(rendered.kind, Kind::Star);
//! assert_eq!(rendered.image.dimensions(), (32, 32));
//! assert!(rendered.factors.size > 0.3);
//! # Ok::<(), portolan_shapes::Error>(())
//! ```
//!
//! # Why it is rendered this way
//!
//! The pixels are the same on every machine: all arithmetic is plain IEEE, and the few
//! transcendental functions are those of the `libm` crate, since the standard library's differ
//! between platforms.
//!
//! The images are a fair small stand-in for photographs because of what varies ([`Factors`] lists
//! it) and what goes with the kind: the outline, and a surface that no two kinds share. Figures on
//! this data compare methods and settings with each other. They are no paper's figures.

mod depth;
mod draw;
mod error;
mod factors;
mod kind;
mod silhouette;
mod surface;

use portolan_random::{Purpose, stream};

pub use depth::{DepthMap, WALL, draw_depth};
pub use draw::{Rendered, draw};
pub use error::{Error, Result};
pub use factors::Factors;
pub use kind::{CLASSES, Kind, Palette};
pub use surface::Pattern;

/// Name and version of the renderer. It changes whenever a pixel would.
pub const VERSION: &str = "shapes-1";

/// Which part of a data set.
///
/// The numbers name the random streams that images are drawn from: never change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// For training, and for fitting the classifiers of an evaluation.
    Train = 0,
    /// For scoring only.
    Test = 1,
}

/// One split of the built-in data: `count` images of `size` × `size` pixels.
#[derive(Clone, Debug)]
pub struct Shapes {
    split: Split,
    count: usize,
    size: u32,
    seed: u64,
    palette: Palette,
}

impl Shapes {
    /// The images of a split, drawn from `seed`. An image depends on seed, split and index alone: a
    /// larger `count` adds images, and another `size` (in pixels) shows the same scenes finer or
    /// coarser.
    ///
    /// # Errors
    /// If `size` is not between 32 and 224.
    pub fn new(split: Split, count: usize, size: u32, seed: u64) -> Result<Self> {
        if !(32..=224).contains(&size) {
            return Err(Error::Size(size));
        }
        Ok(Shapes { split, count, size, seed, palette: Palette::Standard })
    }

    /// The same scenes in the paints of another palette.
    #[must_use]
    pub fn with_palette(self, palette: Palette) -> Self {
        Shapes { palette, ..self }
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The kind of the object in the image at `index`. Kinds take turns, so labels are balanced.
    pub fn kind(&self, index: usize) -> Kind {
        Kind::ALL[index % Kind::ALL.len()]
    }

    /// The factors of the image at `index`, without rendering it.
    pub fn factors(&self, index: usize) -> Factors {
        let mut random = stream(self.seed, Purpose::Shapes, &[self.split as u64, index as u64]);
        let kind = self.kind(index);
        let mut factors = Factors::sample(kind, &mut random);
        if self.palette != Palette::Standard {
            factors.hue = (factors.hue + self.palette.turn(kind)).rem_euclid(1.0);
        }
        factors
    }

    /// The image at `index`, with its kind, its factors and the mask of its object.
    pub fn render(&self, index: usize) -> Rendered {
        draw(self.kind(index), &self.factors(index), self.size)
    }

    /// The depth of each pixel of the image at `index`, in meters ([`draw_depth`]).
    pub fn depth(&self, index: usize) -> DepthMap {
        draw_depth(self.kind(index), &self.factors(index), self.size)
    }
}

#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
