//! Barlow Twins' settings.

use portolan_method::{Result, ensure_setting, validate_loss_scale};
use serde::{Deserialize, Serialize};

/// The settings of Barlow Twins. The defaults are the paper's for ImageNet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarlowConfig {
    /// Layers of the projection head: 3 (section 2.2).
    pub layers: usize,
    /// Width of its hidden layers: 8,192 (section 2.2).
    pub hidden: i64,
    /// Dimensions of an output: 8,192 (section 2.2).
    pub dim: i64,
    /// λ, the weight of the redundancy term relative to the invariance term: 0.005 (section 2.2),
    /// 0.0051 in the authors' code.
    pub lambda: f64,
    /// The factor that scales the loss ([`validate_loss_scale`] describes its effect): 1/W gives
    /// the gradient of the authors' code on W GPUs (16 in their README). That code sums the
    /// correlations over the GPUs with an all-reduce that autograd does not track. Each GPU's
    /// gradient is therefore that of its own images only, and the W gradients are averaged. 1 is
    /// the gradient of the loss as written; solo-learn uses 0.1 for CIFAR-10.
    pub loss_scale: f64,
    /// The learning rate of biases and batch norms relative to that of the weights: 0.024, from
    /// rates of 0.0048 and 0.2 (section 2.2).
    pub bias_rate: f64,
}

impl Default for BarlowConfig {
    fn default() -> Self {
        BarlowConfig {
            layers: 3,
            hidden: 8192,
            dim: 8192,
            lambda: 0.0051,
            loss_scale: 1.0 / 16.0,
            bias_rate: 0.024,
        }
    }
}

impl BarlowConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// When a setting is out of range; the message names it and its range.
    pub fn validate(&self) -> Result<()> {
        ensure_setting((1..=8).contains(&self.layers), || {
            format!("layers is {}; a head has from 1 to 8 (3 in the paper)", self.layers)
        })?;
        ensure_setting(self.hidden >= 1 && self.dim >= 2, || {
            "hidden must be at least 1, dim at least 2".to_owned()
        })?;
        for (name, value) in [("lambda", self.lambda), ("bias_rate", self.bias_rate)] {
            ensure_setting(value >= 0.0 && value.is_finite(), || {
                format!("{name} is {value}; it cannot be negative")
            })?;
        }
        validate_loss_scale(self.loss_scale)
    }
}
