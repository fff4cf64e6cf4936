//! What is drawn for one view of a whole batch, before any pixel is touched.

use portolan_random::Stream;
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::ops::{self, Region};
use crate::{Op, ViewSpec};

/// Everything random in one view of each image of a batch: what the device engine is handed beside the pixels.
///
/// An operation that is not applied to an image has drawn what changes nothing: a factor of 1, a blur of deviation 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Draws {
    /// The region that each image's random crop keeps; empty where the crop is not random.
    pub regions: Vec<Region>,
    /// The order of each color jitter's four changes (0 brightness, 1 contrast, 2 saturation, 3 hue): one for all
    /// images, so that a change is one operation on the batch.
    pub orders: Vec<[usize; 4]>,
    /// The other draws, operation after operation, `[rows, batch]`: 1 or 0 (applied or not) for flip, gray and
    /// solarizing; brightness, contrast, saturation and hue for a jitter; the deviation for a blur.
    pub rows: Vec<Vec<f32>>,
}

impl Draws {
    /// Draws for images of these widths and heights. The specification has to pass [`ViewSpec::validate`].
    ///
    /// # Panics
    /// If the specification has an [`Op::RandAugment`].
    pub fn new(spec: &ViewSpec, sizes: &[(u32, u32)], rng: &mut Stream) -> Self {
        let mut draws = Draws { regions: vec![], orders: vec![], rows: vec![] };
        for op in &spec.ops {
            draws.draw(op, sizes, rng);
        }
        draws
    }

    fn draw(&mut self, op: &Op, sizes: &[(u32, u32)], rng: &mut Stream) {
        let batch = sizes.len();
        match *op {
            Op::RandomResizedCrop { scale, ratio, .. } => {
                let region = |&(w, h): &(u32, u32)| ops::random_region(w, h, scale, ratio, rng);
                self.regions = sizes.iter().map(region).collect();
            }
            Op::CenterCrop { .. } | Op::Normalize { .. } => {}
            Op::HorizontalFlip { p } | Op::Grayscale { p } | Op::Solarize { p, .. } => {
                self.rows.push((0..batch).map(|_| f32::from(u8::from(chance(p, rng)))).collect());
            }
            Op::ColorJitter { p, brightness, contrast, saturation, hue } => {
                let applied: Vec<bool> = (0..batch).map(|_| chance(p, rng)).collect();
                for strength in [brightness, contrast, saturation] {
                    let range = [(1.0 - strength).max(0.0), 1.0 + strength];
                    self.rows.push(drawn_or(1.0, &applied, range, rng));
                }
                self.rows.push(drawn_or(0.0, &applied, [-hue, hue], rng));
                let mut order = [0, 1, 2, 3];
                order.shuffle(rng);
                self.orders.push(order);
            }
            Op::RandAugment(_) => panic!("`rand_augment` is made by the CPU engine alone"),
            Op::GaussianBlur { p, sigma, .. } => {
                let applied: Vec<bool> = (0..batch).map(|_| chance(p, rng)).collect();
                self.rows.push(drawn_or(0.0, &applied, sigma, rng));
            }
        }
    }
}

/// A number of `range` for each image, or `otherwise` where the operation is not applied to it.
fn drawn_or(otherwise: f32, applied: &[bool], range: [f64; 2], rng: &mut Stream) -> Vec<f32> {
    let one = |&applied: &bool| {
        let drawn = ops::uniform(range, rng) as f32;
        if applied { drawn } else { otherwise }
    };
    applied.iter().map(one).collect()
}

fn chance(p: f64, rng: &mut Stream) -> bool {
    rng.random::<f64>() < p
}
