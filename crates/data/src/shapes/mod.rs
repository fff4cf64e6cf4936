//! The built-in data: little things with a patterned surface, lit from above, on quiet backgrounds.
//!
//! Ten kinds of object, and nothing to download: an image is rendered when it is asked for, from its seed,
//! split and index. The same pixels come out on every machine, for all arithmetic is plain IEEE and the
//! few transcendental functions are the `libm` crate's (the standard library's differ between platforms).
//! Each image comes with its [`Factors`], all that it was drawn from, and with a mask of its object.
//!
//! ```
//! use portolan_data::Split;
//! use portolan_data::shapes::{Kind, Shapes};
//!
//! let shapes = Shapes::new(Split::Train, 10_000, 32, 0)?;
//! let rendered = shapes.render(3); // labels are the index modulo 10, so every ten images hold all kinds
//! assert_eq!(rendered.kind, Kind::Star);
//! assert_eq!(rendered.image.dimensions(), (32, 32));
//! assert!(rendered.factors.size > 0.3);
//! # anyhow::Ok(())
//! ```
//!
//! What makes it a fair small stand-in for photographs is the choice of what varies ([`Factors`] says how)
//! and what goes with the kind: the outline, and a surface that two kinds never share. Figures on it
//! compare methods and settings with each other; they are no paper's figures.

mod draw;
mod factors;
mod kind;
mod silhouette;
mod surface;

pub use draw::{Rendered, draw};
pub use factors::Factors;
pub use kind::{CLASSES, Kind};
pub use surface::Pattern;

use crate::source::{Picture, Source, Split};
use anyhow::{Result, ensure};
use portolan_random::{Purpose, stream};

/// The renderer's name and version: it changes whenever a pixel would.
pub const VERSION: &str = "shapes-1";

/// One split of the built-in data: `count` images of `size` × `size` pixels.
#[derive(Clone, Debug)]
pub struct Shapes {
    split: Split,
    count: usize,
    size: u32,
    seed: u64,
}

impl Shapes {
    /// The split's images, drawn from `seed`. An image depends on seed, split and index alone: a larger
    /// `count` adds images, and another `size` (in pixels) shows the same scenes finer or coarser.
    ///
    /// # Errors
    /// Where `size` is not between 32 and 224.
    pub fn new(split: Split, count: usize, size: u32, seed: u64) -> Result<Self> {
        ensure!(
            (32..=224).contains(&size),
            "shapes cannot be drawn {size} pixels wide: choose a size from 32 to 224"
        );
        Ok(Shapes { split, count, size, seed })
    }

    /// The kind of the object in the image at `index`; kinds take turns, so labels are balanced.
    pub fn kind(&self, index: usize) -> Kind {
        Kind::ALL[index % Kind::ALL.len()]
    }

    /// What the image at `index` is drawn from, without drawing it.
    pub fn factors(&self, index: usize) -> Factors {
        let mut random = stream(self.seed, Purpose::Shapes, &[self.split as u64, index as u64]);
        Factors::sample(self.kind(index), &mut random)
    }

    /// The image at `index`, with its kind, its factors and the object's mask.
    pub fn render(&self, index: usize) -> Rendered {
        draw(self.kind(index), &self.factors(index), self.size)
    }
}

impl Source for Shapes {
    fn len(&self) -> usize {
        self.count
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        Ok(Picture::Decoded(self.render(index).image))
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(self.kind(index).label())
    }

    fn describe(&self, index: usize) -> String {
        format!("{} {index} of {VERSION}", self.kind(index).name())
    }
}

#[cfg(test)]
mod tests;
