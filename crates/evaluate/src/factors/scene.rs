//! The factors of an image of `shapes`, and how each is read and changed.

use portolan_data::shapes::{Factors, Kind, Pattern, Shapes};
use std::f32::consts::TAU;

/// A factor of the images of `shapes`.
pub(super) struct Factor {
    pub(super) name: &'static str,
    pub(super) value: Value,
    /// Takes this factor alone from another image, if that is possible.
    pub(super) change: Option<fn(&mut Scene, &Scene)>,
}

/// How a factor is represented as the target of a prediction.
pub(super) enum Value {
    /// One of this many classes.
    Class(i64, fn(&Scene) -> i64),
    /// Numbers to be predicted linearly: an angle as its cosine and sine.
    Numbers(fn(&Scene) -> Vec<f32>),
    /// The same minus their mean over the images of the kind, so that knowing the kind does not
    /// help.
    WithinKind(fn(&Scene) -> Vec<f32>),
}

/// Everything that an image is drawn from.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) kind: Kind,
    pub(super) factors: Factors,
}

/// An angle in turns as its cosine and sine.
pub(super) fn circle(turns: f32) -> Vec<f32> {
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

/// All factors. A change of kind changes the outline only: the surface stays.
pub(super) const FACTORS: [Factor; 15] = [
    Factor {
        name: "kind",
        value: Value::Class(10, |s| i64::from(s.kind.label())),
        change: Some(|a, b| a.kind = b.kind),
    },
    Factor {
        name: "pattern",
        value: Value::Class(5, pattern),
        change: Some(|a, b| a.factors.pattern = b.factors.pattern),
    },
    Factor {
        name: "mirrored",
        value: Value::Class(2, |s| i64::from(s.factors.mirrored)),
        change: Some(|a, _| a.factors.mirrored = !a.factors.mirrored),
    },
    Factor {
        name: "hue",
        value: Value::Numbers(|s| circle(s.factors.hue)),
        change: Some(|a, b| a.factors.hue = b.factors.hue),
    },
    Factor {
        name: "hue within the kind",
        value: Value::WithinKind(|s| circle(s.factors.hue)),
        change: None,
    },
    Factor {
        name: "saturation",
        value: Value::Numbers(|s| vec![s.factors.saturation]),
        change: Some(|a, b| a.factors.saturation = b.factors.saturation),
    },
    Factor {
        name: "brightness",
        value: Value::Numbers(|s| vec![s.factors.value]),
        change: Some(|a, b| a.factors.value = b.factors.value),
    },
    Factor {
        name: "exposure",
        value: Value::Numbers(|s| vec![s.factors.exposure]),
        change: Some(|a, b| a.factors.exposure = b.factors.exposure),
    },
    Factor {
        name: "size",
        value: Value::Numbers(|s| vec![s.factors.size]),
        change: Some(|a, b| a.factors.size = b.factors.size),
    },
    Factor {
        name: "position",
        value: Value::Numbers(|s| vec![s.factors.x, s.factors.y]),
        change: Some(|a, b| (a.factors.x, a.factors.y) = (b.factors.x, b.factors.y)),
    },
    Factor {
        name: "rotation",
        value: Value::Numbers(|s| vec![s.factors.rotation]),
        change: Some(|a, b| a.factors.rotation = b.factors.rotation),
    },
    Factor {
        name: "light",
        value: Value::Numbers(|s| vec![s.factors.light]),
        change: Some(|a, b| a.factors.light = b.factors.light),
    },
    Factor {
        name: "pattern's scale",
        value: Value::Numbers(|s| vec![s.factors.frequency]),
        change: Some(|a, b| a.factors.frequency = b.factors.frequency),
    },
    Factor {
        name: "background's hue",
        value: Value::Numbers(|s| circle(s.factors.background_hue)),
        change: Some(|a, b| a.factors.background_hue = b.factors.background_hue),
    },
    Factor {
        name: "background",
        value: Value::Numbers(|s| vec![s.factors.background_value]),
        change: Some(|a, b| {
            let (from, to) = (&b.factors, &mut a.factors);
            (to.background_value, to.background_contrast, to.background_phase) =
                (from.background_value, from.background_contrast, from.background_phase);
        }),
    },
];

/// The scene of an image.
pub(super) fn scene(shapes: &Shapes, index: usize) -> Scene {
    Scene { kind: shapes.kind(index), factors: shapes.factors(index) }
}
