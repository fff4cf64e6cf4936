//! Barlow Twins' settings.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// What Barlow Twins can be set to. The defaults are the paper's for ImageNet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarlowConfig {
    /// Layers of the projection head: 3 (section 2.2).
    pub layers: usize,
    /// Width of its hidden layers: 8,192 (section 2.2).
    pub hidden: i64,
    /// Numbers of an output: 8,192 (section 2.2).
    pub dim: i64,
    /// λ, what redundancy weighs against invariance: 0.005 (section 2.2), 0.0051 in the authors' code.
    pub lambda: f64,
    /// What the loss is multiplied by: 1 in the authors' code (0.024 in an earlier version; 0.1 in solo-learn, for
    /// optimisers that feel it).
    pub loss_scale: f64,
    /// The learning rate of biases and batch norms against that of the weights: 0.024, rates of 0.0048 and 0.2
    /// (section 2.2).
    pub bias_rate: f64,
}

impl Default for BarlowConfig {
    fn default() -> Self {
        BarlowConfig {
            layers: 3,
            hidden: 8192,
            dim: 8192,
            lambda: 0.0051,
            loss_scale: 1.0,
            bias_rate: 0.024,
        }
    }
}

impl BarlowConfig {
    /// Whether these settings make sense.
    ///
    /// # Errors
    /// When one does not; the message names it and its range.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            (1..=8).contains(&self.layers),
            "layers is {}; a head has from 1 to 8 (3 in the paper)",
            self.layers
        );
        ensure!(self.hidden >= 1 && self.dim >= 2, "hidden must be at least 1, dim at least 2");
        for (name, value) in [("lambda", self.lambda), ("bias_rate", self.bias_rate)] {
            ensure!(value >= 0.0 && value.is_finite(), "{name} is {value}; it cannot be negative");
        }
        ensure!(
            self.loss_scale > 0.0 && self.loss_scale.is_finite(),
            "loss_scale is {}; it must be above 0",
            self.loss_scale
        );
        Ok(())
    }
}
