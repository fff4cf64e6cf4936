//! Families of pretraining methods.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What keeps a method's features from collapsing, which decides how its metrics are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Tells the other view of an image from views of other images: SimCLR, MoCo.
    Contrastive,
    /// A student predicts a teacher's or a twin's output, without negatives: BYOL, SimSiam, DINO.
    SelfDistillation,
    /// Decorrelates the dimensions of the outputs: Barlow Twins, VICReg.
    RedundancyReduction,
    /// Restores hidden parts of an image or a text: MAE, BERT, GPT.
    Reconstruction,
    /// Solves a task whose labels come for free: rotation, jigsaw, colorization.
    Pretext,
    /// A student learns the features of a trained, frozen teacher.
    Distillation,
}

impl Family {
    /// Whether the method compares views of an image, and could therefore give every image the same
    /// output.
    #[must_use]
    pub const fn compares_views(self) -> bool {
        match self {
            Family::Contrastive | Family::SelfDistillation | Family::RedundancyReduction => true,
            Family::Reconstruction | Family::Pretext | Family::Distillation => false,
        }
    }
}

/// As in running text: `self-distillation`, `pretext task`.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Contrastive => "contrastive",
            Family::SelfDistillation => "self-distillation",
            Family::RedundancyReduction => "redundancy reduction",
            Family::Reconstruction => "reconstruction",
            Family::Pretext => "pretext task",
            Family::Distillation => "distillation",
        })
    }
}

/// The facts about a method by which its metrics are interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodTraits {
    /// The family of the method.
    pub family: Family,
    /// Whether a queue keeps negatives of earlier batches (MoCo v1 and v2).
    pub has_queue: bool,
    /// Whether a moving average of the encoder gives the targets (MoCo, BYOL, DINO).
    pub has_momentum_encoder: bool,
}

impl MethodTraits {
    /// A method of this family with neither a queue nor a momentum encoder.
    #[must_use]
    pub const fn new(family: Family) -> Self {
        MethodTraits { family, has_queue: false, has_momentum_encoder: false }
    }

    /// The same with a momentum encoder.
    #[must_use]
    pub const fn with_momentum_encoder(self) -> Self {
        MethodTraits { has_momentum_encoder: true, ..self }
    }

    /// The same with a queue.
    #[must_use]
    pub const fn with_queue(self) -> Self {
        MethodTraits { has_queue: true, ..self }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn is_stored_in_kebab_case() {
        let json = serde_json::to_string(&Family::SelfDistillation).unwrap();
        assert_eq!(json, "\"self-distillation\"");
        assert_eq!(serde_json::from_str::<Family>(&json).unwrap(), Family::SelfDistillation);
    }
}
