//! Scales the views of a recipe to another size.

use portolan_augment::{Op, Views};
use portolan_encoders::EncoderConfig;

/// Scales views from the evaluation size of a recipe to another.
pub(super) struct Scale {
    /// The evaluation size of the recipe, in pixels.
    pub(super) own: u32,
    /// The new evaluation size, in pixels.
    pub(super) size: u32,
    /// Scaled sides are multiples of this.
    pub(super) unit: u32,
}

impl Scale {
    /// Scales the sides of all views, and blurs in proportion. Removes color changes if the images
    /// are gray.
    pub(super) fn apply(&self, views: &[Views], gray: bool) -> Vec<Views> {
        let each = |views: &Views| Views {
            count: views.count,
            ops: views.ops.iter().filter_map(|op| self.op(op, gray)).collect(),
        };
        views.iter().map(each).collect()
    }

    fn op(&self, op: &Op, gray: bool) -> Option<Op> {
        let share = f64::from(self.size) / f64::from(self.own);
        Some(match op.clone() {
            Op::RandomResizedCrop { size, scale, ratio, interpolation } => {
                Op::RandomResizedCrop { size: self.side(size), scale, ratio, interpolation }
            }
            Op::GaussianBlur { p, sigma, kernel } => {
                let kernel = (f64::from(kernel) * share) as u32 / 2 * 2 + 1;
                Op::GaussianBlur { p, sigma: sigma.map(|s| s * share), kernel }
            }
            Op::Grayscale { .. } if gray => return None,
            Op::ColorJitter { p, brightness, contrast, .. } if gray => {
                Op::ColorJitter { p, brightness, contrast, saturation: 0.0, hue: 0.0 }
            }
            other => other,
        })
    }

    fn side(&self, of: u32) -> u32 {
        let &Scale { own, size, unit } = self;
        if size == own {
            return of;
        }
        ((of * size / own + unit / 2) / unit * unit).max(unit)
    }
}

/// The number and side of the views, such as `2 of 96 px, 8 of 40 px`.
pub(super) fn text(views: &[Views]) -> String {
    let mut sides: Vec<(usize, u32)> = Vec::new();
    for (count, side) in views.iter().map(|views| (views.count, side(views))) {
        match sides.iter_mut().find(|(_, known)| *known == side) {
            Some((sum, _)) => *sum += count,
            None => sides.push((count, side)),
        }
    }
    let texts: Vec<String> =
        sides.iter().map(|(count, side)| format!("{count} of {side} px")).collect();
    texts.join(", ")
}

fn side(views: &Views) -> u32 {
    let crop = |op: &Op| match *op {
        Op::RandomResizedCrop { size, .. } | Op::CenterCrop { size, .. } => Some(size),
        _ => None,
    };
    views.ops.iter().find_map(crop).unwrap_or(0)
}

/// An estimate of the bytes of float32 activations that training stores for the views of an image.
pub(super) fn bytes(views: &[Views], encoder: &EncoderConfig) -> u64 {
    let of = |views: &Views| views.count as f64 * encoder.activations(f64::from(side(views)));
    (4.0 * views.iter().map(of).sum::<f64>()) as u64
}
