//! SimCLR's settings.

use portolan_encoders::HeadNorm;
use portolan_method::{Result, ensure_setting, validate_loss_scale};
use serde::{Deserialize, Serialize};

/// The settings of SimCLR. The defaults are the paper's for ImageNet and a ResNet-50.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimclrConfig {
    /// Layers of the projection head: 2 (section 2.1), 3 in v2 (section 2 there).
    pub layers: usize,
    /// Width of the head's hidden layers: the encoder's, 2,048 (the authors' `model_util.py`).
    pub hidden: i64,
    /// Dimensions of a projection: 128 (section 2.3).
    pub dim: i64,
    /// The layers of the head with batch norms: all of them in the authors' code.
    pub norm: HeadNorm,
    /// τ: 0.1 (section 5.1), 0.5 for CIFAR-10 (appendix B.9).
    pub temperature: f64,
    /// The factor that scales the loss ([`validate_loss_scale`] describes its effect): 2 in the
    /// authors' code, which adds the means over the queries of each view (`objective.py`); 1 is the
    /// mean over all queries (algorithm 1), as in lightly. Runs without this setting used 1.
    #[serde(default = "one")]
    pub loss_scale: f64,
}

fn one() -> f64 {
    1.0
}

impl Default for SimclrConfig {
    fn default() -> Self {
        SimclrConfig {
            layers: 2,
            hidden: 2048,
            dim: 128,
            norm: HeadNorm::All,
            temperature: 0.1,
            loss_scale: 2.0,
        }
    }
}

impl SimclrConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// When a setting is out of range; the message names it and its range.
    pub fn validate(&self) -> Result<()> {
        ensure_setting((1..=8).contains(&self.layers), || {
            format!("layers is {}; a head has from 1 to 8 (2 in the paper)", self.layers)
        })?;
        ensure_setting(self.hidden >= 1 && self.dim >= 1, || {
            "hidden and dim must be at least 1".to_owned()
        })?;
        ensure_setting(self.temperature > 0.0 && self.temperature.is_finite(), || {
            format!("temperature is {}; it must be above 0 (0.1 in the paper)", self.temperature)
        })?;
        validate_loss_scale(self.loss_scale)
    }
}
