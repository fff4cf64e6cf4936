//! BYOL's settings.

use portolan_method::{Result, ensure_setting, validate_loss_scale};
use serde::{Deserialize, Serialize};

/// The settings of BYOL. The defaults are the paper's for ImageNet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByolConfig {
    /// Width of the hidden layer of projector and predictor: 4,096 (section 3.3).
    pub hidden: i64,
    /// Dimensions of a projection: 256 (section 3.3).
    pub dim: i64,
    /// τ, the momentum of the target at the first update: 0.996 (section 3.3). It rises to 1 along
    /// a cosine.
    pub momentum: f64,
    /// Whether the last layers of projector and predictor have a bias: no in the authors' code
    /// (`utils/networks.py`), yes in lightly. Runs without this setting used one.
    #[serde(default = "yes")]
    pub last_bias: bool,
    /// The factor that scales the loss ([`validate_loss_scale`] describes its effect). 1 is the
    /// paper's loss, the sum of 2 − 2 cos over both directions (equation 2). 0.25 gives the
    /// gradient of lightly's loss, the mean of −cos over both directions, which is a quarter as
    /// large.
    pub loss_scale: f64,
    /// Whether there is a predictor. Without both predictor and target, outputs collapse to a point
    /// (table 5).
    pub predictor: bool,
    /// Whether the target is a momentum encoder outside the gradient; otherwise the online network
    /// is its own target, and the gradient flows into both sides.
    pub target: bool,
}

fn yes() -> bool {
    true
}

impl Default for ByolConfig {
    fn default() -> Self {
        ByolConfig {
            hidden: 4096,
            dim: 256,
            momentum: 0.996,
            last_bias: false,
            loss_scale: 1.0,
            predictor: true,
            target: true,
        }
    }
}

impl ByolConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// When a setting is out of range; the message names it and its range.
    pub fn validate(&self) -> Result<()> {
        ensure_setting(self.hidden >= 1 && self.dim >= 1, || {
            "hidden and dim must be at least 1".to_owned()
        })?;
        ensure_setting((0.0..=1.0).contains(&self.momentum), || {
            format!("momentum is {}; it must be from 0 to 1 (0.996 in the paper)", self.momentum)
        })?;
        validate_loss_scale(self.loss_scale)
    }
}
