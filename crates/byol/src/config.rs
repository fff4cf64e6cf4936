//! BYOL's settings.

use portolan_method::{Result, ensure_setting, validate_loss_scale};
use serde::{Deserialize, Serialize};

/// What BYOL can be set to. The defaults are the paper's for ImageNet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByolConfig {
    /// Width of the hidden layer of projector and predictor: 4,096 (section 3.3).
    pub hidden: i64,
    /// Numbers of a projection: 256 (section 3.3).
    pub dim: i64,
    /// τ, how much of the target stays at the first update; it rises to 1 along a cosine: 0.996
    /// (section 3.3).
    pub momentum: f64,
    /// Whether the last layers of projector and predictor have a bias: not in the authors' code
    /// (`utils/networks.py`), in lightly's. Runs from before there was a choice have one.
    #[serde(default = "yes")]
    pub last_bias: bool,
    /// What the loss is multiplied by ([`validate_loss_scale`] says what it changes). 1 is the
    /// paper's sum of both directions' 2 − 2 cos (equation 2); 0.25 is the mean of both directions'
    /// −cos that lightly minimizes, whose gradient is a quarter as large.
    pub loss_scale: f64,
    /// Whether there is a predictor. Without it, and without the next, outputs collapse to a point
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
    /// Whether these settings make sense.
    ///
    /// # Errors
    /// When one does not; the message names it and its range.
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
