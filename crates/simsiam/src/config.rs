//! SimSiam's settings.

use portolan_encoders::HeadNorm;
use portolan_method::{Result, ensure_setting};
use serde::{Deserialize, Serialize};

/// What SimSiam can be set to. The defaults are the paper's for ImageNet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimsiamConfig {
    /// Layers of the projection head: 3 (section 3), 2 for CIFAR-10 (appendix D).
    pub layers: usize,
    /// Where it has batch norms: after every layer (section 3); after hidden ones alone it does
    /// nearly as well (table 3).
    pub norm: HeadNorm,
    /// Width of all of its layers: 2,048 (section 3).
    pub dim: i64,
    /// Width of the predictor's hidden layer, a bottleneck: 512 (section 3).
    pub predictor_hidden: i64,
    /// Whether the predictor keeps the base learning rate while the rest decays (section 4.2); so
    /// in the authors' code.
    pub predictor_base_rate: bool,
    /// Whether the gradient stops at the side that is predicted. Without it outputs collapse to a
    /// point (section 4.1).
    pub stop_gradient: bool,
}

impl Default for SimsiamConfig {
    fn default() -> Self {
        SimsiamConfig {
            layers: 3,
            norm: HeadNorm::All,
            dim: 2048,
            predictor_hidden: 512,
            predictor_base_rate: true,
            stop_gradient: true,
        }
    }
}

impl SimsiamConfig {
    /// Whether these settings make sense.
    ///
    /// # Errors
    /// When one does not; the message names it and its range.
    pub fn validate(&self) -> Result<()> {
        ensure_setting((1..=8).contains(&self.layers), || {
            format!("layers is {}; a head has from 1 to 8 (3 in the paper)", self.layers)
        })?;
        ensure_setting(self.dim >= 1 && self.predictor_hidden >= 1, || {
            "dim and predictor_hidden must be at least 1".to_owned()
        })?;
        Ok(())
    }
}
