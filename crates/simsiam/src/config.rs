//! SimSiam's settings.

use portolan_encoders::HeadNorm;
use portolan_method::{Result, ensure_setting};
use serde::{Deserialize, Serialize};

/// The settings of SimSiam. The defaults are the paper's for ImageNet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimsiamConfig {
    /// Layers of the projection head: 3 (section 3), 2 for CIFAR-10 (appendix D).
    pub layers: usize,
    /// The layers of the head with batch norms: all of them (section 3). With only the hidden ones
    /// results are nearly as good (table 3).
    pub norm: HeadNorm,
    /// Width of all layers of the head: 2,048 (section 3).
    pub dim: i64,
    /// Width of the predictor's hidden layer, a bottleneck: 512 (section 3).
    pub predictor_hidden: i64,
    /// Whether the predictor keeps the base learning rate while that of the other parameters decays
    /// (section 4.2), as in the authors' code.
    pub predictor_base_rate: bool,
    /// Whether to stop the gradient into the predicted projections. Without this, outputs collapse
    /// to a point (section 4.1).
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
    /// Checks the settings.
    ///
    /// # Errors
    /// When a setting is out of range; the message names it and its range.
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
