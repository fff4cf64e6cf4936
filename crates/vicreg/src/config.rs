//! VICReg's settings.

use portolan_losses::vicreg::Weights;
use portolan_method::{Result, ensure_setting};
use serde::{Deserialize, Serialize};

/// The settings of VICReg. The defaults are the paper's for ImageNet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VicregConfig {
    /// Layers of the expander: 3 (section 4.2).
    pub layers: usize,
    /// Width of its hidden layers: 8,192 (section 4.2).
    pub hidden: i64,
    /// Dimensions of an output: 8,192 (section 4.2).
    pub dim: i64,
    /// λ, the weight of the invariance term: 25 (section 4.2).
    pub invariance: f64,
    /// μ, the weight of the variance term: 25 (section 4.2). Without this term, outputs collapse to
    /// a point (table 7).
    pub variance: f64,
    /// ν, the weight of the covariance term: 1 (section 4.2).
    pub covariance: f64,
}

impl Default for VicregConfig {
    fn default() -> Self {
        VicregConfig {
            layers: 3,
            hidden: 8192,
            dim: 8192,
            invariance: 25.0,
            variance: 25.0,
            covariance: 1.0,
        }
    }
}

impl VicregConfig {
    pub(crate) fn weights(&self) -> Weights {
        let &VicregConfig { invariance, variance, covariance, .. } = self;
        Weights { invariance, variance, covariance, ..Weights::default() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// When a setting is out of range; the message names it and its range.
    pub fn validate(&self) -> Result<()> {
        ensure_setting((1..=8).contains(&self.layers), || {
            format!("layers is {}; an expander has from 1 to 8 (3 in the paper)", self.layers)
        })?;
        ensure_setting(self.hidden >= 1 && self.dim >= 2, || {
            "hidden must be at least 1, dim at least 2".to_owned()
        })?;
        for (name, value) in [
            ("invariance", self.invariance),
            ("variance", self.variance),
            ("covariance", self.covariance),
        ] {
            ensure_setting(value >= 0.0 && value.is_finite(), || {
                format!("{name} is {value}; it cannot be negative")
            })?;
        }
        Ok(())
    }
}
