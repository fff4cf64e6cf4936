//! Embeddings of images of `shapes`, and of those images with one factor changed.

use portolan_data::shapes::{Shapes, draw};
use portolan_data::{ImageData, Source};
use portolan_tensor::Tensor;

use super::scene::{FACTORS, Factor, Scene, scene};
use crate::error::{Error, Result};

/// How many test images get a factor changed.
const CHANGED: usize = 500;
/// The fewest images of a split.
const FEWEST: usize = 100;

/// The first test images, each with one factor taken from another image of another kind.
struct Changed<'a> {
    shapes: &'a Shapes,
    size: u32,
    change: fn(&mut Scene, &Scene),
}

impl Source for Changed<'_> {
    fn len(&self) -> usize {
        CHANGED.min(self.shapes.len())
    }

    fn image(&self, index: usize) -> portolan_data::Result<ImageData> {
        let mut changed = scene(self.shapes, index);
        // Kinds alternate with a period of 10: image index + 13 is of another kind.
        (self.change)(&mut changed, &scene(self.shapes, (index + 13) % self.shapes.len()));
        Ok(ImageData::Decoded(draw(changed.kind, &changed.factors, self.size).image))
    }

    fn label(&self, _: usize) -> Option<u32> {
        None
    }

    fn describe(&self, index: usize) -> String {
        format!("{} with a factor changed", self.shapes.describe(index))
    }
}

/// Embeddings of all images that a [`FactorTable`](super::FactorTable) needs, `[n, width]` each.
#[derive(Debug)]
pub struct FactorImages {
    pub(super) train: Tensor,
    pub(super) test: Tensor,
    /// One for each factor that can be changed.
    pub(super) changed: Vec<Option<Tensor>>,
}

impl FactorImages {
    /// Embeds both splits, and the test images with each factor changed. `size` is the side at
    /// which images are drawn, in pixels.
    ///
    /// # Errors
    /// When `embed` fails, or a split has fewer than 100 images.
    pub fn embed<E: From<Error>>(
        train: &Shapes,
        test: &Shapes,
        size: u32,
        embed: impl Fn(&dyn Source) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        if train.len() < FEWEST || test.len() < FEWEST {
            return Err(E::from(Error::Images(format!(
                "factors are read from 100 images of each split or more, and there are {} and {}",
                train.len(),
                test.len()
            ))));
        }
        let of_change = |factor: &Factor| {
            factor.change.map(|change| embed(&Changed { shapes: test, size, change })).transpose()
        };
        Ok(FactorImages {
            train: embed(train)?,
            test: embed(test)?,
            changed: FACTORS.iter().map(of_change).collect::<Result<_, E>>()?,
        })
    }

    /// Applies another layer to all embeddings; `None` if `layer` returns `None`.
    pub fn map(&self, layer: impl Fn(&Tensor) -> Option<Tensor>) -> Option<Self> {
        let changed = self.changed.iter().map(|x| match x {
            Some(x) => layer(x).map(Some),
            None => Some(None),
        });
        Some(FactorImages {
            changed: changed.collect::<Option<_>>()?,
            train: layer(&self.train)?,
            test: layer(&self.test)?,
        })
    }
}
