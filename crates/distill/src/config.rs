//! The settings of distillation.

use portolan_method::{Result, ensure_setting};
use serde::{Deserialize, Serialize};

/// The settings of distillation. The defaults are lightly-train's (`DistillationV3Args` at commit
/// 8f5a75c4) for data sets of 20,000 images or more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillConfig {
    /// The number of earlier images with which an image is compared, beside those of its batch:
    /// 8,192. lightly-train's `resolve_auto` takes fewer for fewer images: 4,096 below 20,000,
    /// 2,048 below 10,000.
    pub queue: i64,
    /// The temperature of the similarities, of images and of places: 0.07 (`temperature_global`,
    /// `temperature_local`).
    pub temperature: f64,
    /// The scale of the local loss: 1 (`loss_local_weight`). With 0, only the features of whole
    /// images are learned, as in `distillation.py` (version 1).
    pub local_loss_scale: f64,
}

impl Default for DistillConfig {
    fn default() -> Self {
        DistillConfig { queue: 8192, temperature: 0.07, local_loss_scale: 1.0 }
    }
}

impl DistillConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// When a setting is out of range; the message names it and its range.
    pub fn validate(&self) -> Result<()> {
        let &DistillConfig { queue, temperature, local_loss_scale } = self;
        ensure_setting((1..=1 << 20).contains(&queue), || {
            format!("queue is {queue}; it holds from 1 to 1,048,576 images (8,192 in the code)")
        })?;
        ensure_setting(temperature > 0.0 && temperature.is_finite(), || {
            format!("temperature is {temperature}; it must be above 0 (0.07 in the code)")
        })?;
        ensure_setting(local_loss_scale >= 0.0 && local_loss_scale.is_finite(), || {
            format!("local_loss_scale is {local_loss_scale}; it must be 0 or more")
        })
    }
}
