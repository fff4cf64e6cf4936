//! The factors that images of `shapes` are drawn from, and images in which one of them is changed.

use anyhow::{Result, ensure};
use portolan_data::shapes::{Factors, Kind, Pattern, Shapes, draw};
use portolan_data::{ImageData, Source};
use portolan_tensor::Tensor;
use std::f32::consts::TAU;

/// Test images of which a factor is changed.
const CHANGED: usize = 500;

/// A factor of the images of `shapes`.
pub(crate) struct Factor {
    /// What it is called.
    pub(crate) name: &'static str,
    pub(crate) value: Value,
    /// Takes the factor, and nothing else, over from another image.
    change: Option<fn(&mut Scene, &Scene)>,
}

/// How a factor is written down to be read out.
pub(crate) enum Value {
    /// One of so many classes.
    Class(i64, fn(&Scene) -> i64),
    /// Numbers that a line should predict: an angle as its cosine and sine.
    Numbers(fn(&Scene) -> Vec<f32>),
    /// The same, less their mean over the images of the kind: what goes with the kind is read from the kind.
    WithinKind(fn(&Scene) -> Vec<f32>),
}

/// All that an image is drawn from.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) kind: Kind,
    factors: Factors,
}

pub(crate) fn circle(turns: f32) -> Vec<f32> {
    vec![(TAU * turns).cos(), (TAU * turns).sin()]
}

fn pattern(scene: &Scene) -> i64 {
    match scene.factors.pattern {
        Pattern::Stripes => 0,
        Pattern::Dots => 1,
        Pattern::Checks => 2,
        Pattern::Ripples => 3,
        Pattern::Marble => 4,
    }
}

/// The factors that are looked at. Of the kind, the outline alone is changed: its surface stays.
#[rustfmt::skip]
pub(crate) const FACTORS: [Factor; 15] = [
    Factor { name: "kind", value: Value::Class(10, |s| i64::from(s.kind.label())), change: Some(|a, b| a.kind = b.kind) },
    Factor { name: "pattern", value: Value::Class(5, pattern), change: Some(|a, b| a.factors.pattern = b.factors.pattern) },
    Factor { name: "mirrored", value: Value::Class(2, |s| i64::from(s.factors.mirrored)), change: Some(|a, _| a.factors.mirrored = !a.factors.mirrored) },
    Factor { name: "hue", value: Value::Numbers(|s| circle(s.factors.hue)), change: Some(|a, b| a.factors.hue = b.factors.hue) },
    Factor { name: "hue within the kind", value: Value::WithinKind(|s| circle(s.factors.hue)), change: None },
    Factor { name: "saturation", value: Value::Numbers(|s| vec![s.factors.saturation]), change: Some(|a, b| a.factors.saturation = b.factors.saturation) },
    Factor { name: "brightness", value: Value::Numbers(|s| vec![s.factors.value]), change: Some(|a, b| a.factors.value = b.factors.value) },
    Factor { name: "exposure", value: Value::Numbers(|s| vec![s.factors.exposure]), change: Some(|a, b| a.factors.exposure = b.factors.exposure) },
    Factor { name: "size", value: Value::Numbers(|s| vec![s.factors.size]), change: Some(|a, b| a.factors.size = b.factors.size) },
    Factor { name: "position", value: Value::Numbers(|s| vec![s.factors.x, s.factors.y]), change: Some(|a, b| (a.factors.x, a.factors.y) = (b.factors.x, b.factors.y)) },
    Factor { name: "rotation", value: Value::Numbers(|s| vec![s.factors.rotation]), change: Some(|a, b| a.factors.rotation = b.factors.rotation) },
    Factor { name: "light", value: Value::Numbers(|s| vec![s.factors.light]), change: Some(|a, b| a.factors.light = b.factors.light) },
    Factor { name: "pattern's scale", value: Value::Numbers(|s| vec![s.factors.frequency]), change: Some(|a, b| a.factors.frequency = b.factors.frequency) },
    Factor { name: "background's hue", value: Value::Numbers(|s| circle(s.factors.background_hue)), change: Some(|a, b| a.factors.background_hue = b.factors.background_hue) },
    Factor { name: "background", value: Value::Numbers(|s| vec![s.factors.background_value]), change: Some(|a, b| {
        let (from, to) = (&b.factors, &mut a.factors);
        (to.background_value, to.background_contrast, to.background_phase) =
            (from.background_value, from.background_contrast, from.background_phase);
    }) },
];

pub(crate) fn scene(shapes: &Shapes, index: usize) -> Scene {
    Scene { kind: shapes.kind(index), factors: shapes.factors(index) }
}

/// The first test images, each with one factor taken over from another image, of another kind.
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
        // Kinds take turns: 13 further on is another kind, of other colors and surface.
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

/// A representation of all the images that are looked at, `[n, width]` each.
pub struct FactorImages {
    pub(crate) train: Tensor,
    pub(crate) test: Tensor,
    /// One for each factor that is changed.
    pub(crate) changed: Vec<Option<Tensor>>,
}

impl FactorImages {
    /// Embeds both splits, and the test images with each factor changed. `size` is that at which images are drawn.
    ///
    /// # Errors
    /// When `embed` fails, or there are too few images to look at.
    pub fn embed(
        train: &Shapes,
        test: &Shapes,
        size: u32,
        embed: impl Fn(&dyn Source) -> Result<Tensor>,
    ) -> Result<Self> {
        ensure!(
            train.len() >= 100 && test.len() >= 100,
            "factors are read from 100 images of each split or more, and there are {} and {}",
            train.len(),
            test.len()
        );
        let of_change = |factor: &Factor| {
            factor.change.map(|change| embed(&Changed { shapes: test, size, change })).transpose()
        };
        Ok(FactorImages {
            train: embed(train)?,
            test: embed(test)?,
            changed: FACTORS.iter().map(of_change).collect::<Result<_>>()?,
        })
    }

    /// What another layer makes of all of them, where there is one.
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
