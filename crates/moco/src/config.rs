//! MoCo's settings.

use portolan_method::{Result, ensure_setting};
use serde::{Deserialize, Serialize};

/// The projection head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// One layer (v1, section 3.3).
    Linear,
    /// Two layers with a ReLU between, the hidden one as wide as the features (v2, section 3).
    Mlp,
}

/// The settings of MoCo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MocoConfig {
    /// The projection head.
    pub head: Head,
    /// Dimensions of a query or key: 128 (v1, section 3.3).
    pub dim: i64,
    /// Number of keys in the queue: 65,536 (v1, section 4).
    pub queue: i64,
    /// m, the momentum of the key network: 0.999 (v1, section 4).
    pub momentum: f64,
    /// τ: 0.07 (v1, section 3.3), 0.2 (v2, section 3).
    pub temperature: f64,
    /// Whether each view is once the query and once the key, as in the authors' CIFAR-10
    /// demonstration. Otherwise the first view is the query and the second the key, as in the
    /// papers.
    pub symmetric: bool,
}

impl MocoConfig {
    /// v1, section 3.3 and 4.
    pub fn v1() -> Self {
        MocoConfig {
            head: Head::Linear,
            dim: 128,
            queue: 65_536,
            momentum: 0.999,
            temperature: 0.07,
            symmetric: false,
        }
    }

    /// v2, section 3.
    pub fn v2() -> Self {
        MocoConfig { head: Head::Mlp, temperature: 0.2, ..MocoConfig::v1() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// When a setting is out of range; the message names it and its range.
    pub fn validate(&self) -> Result<()> {
        ensure_setting(self.dim >= 1, || {
            format!("dim is {}; a key needs at least one number", self.dim)
        })?;
        ensure_setting(self.queue >= 1, || {
            format!("queue is {}; it must hold at least one key", self.queue)
        })?;
        ensure_setting((0.0..=1.0).contains(&self.momentum), || {
            format!("momentum is {}; it must be from 0 to 1 (0.999 in the paper)", self.momentum)
        })?;
        ensure_setting(self.temperature > 0.0 && self.temperature.is_finite(), || {
            format!("temperature is {}; it must be above 0 (0.2 in MoCo v2)", self.temperature)
        })?;
        Ok(())
    }
}
