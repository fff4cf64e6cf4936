//! MAE's settings.

use portolan_method::{Result, ensure_setting};
use serde::{Deserialize, Serialize};

/// The settings of MAE. The defaults are the paper's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaeConfig {
    /// The share of patches that is hidden: 0.75 (section 4.1, figure 5).
    pub mask_ratio: f64,
    /// Dimensions of a token in the decoder: 512 (section 4.1, table 1b).
    pub decoder_width: i64,
    /// Blocks of the decoder: 8 (table 1a).
    pub decoder_depth: i64,
    /// Attention heads of the decoder: 16 (`models_mae.py`).
    pub decoder_heads: i64,
    /// Whether each target patch is normalized by its own mean and deviation, which gives better
    /// features (table 1d).
    #[serde(alias = "normalise_patches")] // its name up to 0.1
    pub normalize_patches: bool,
}

impl Default for MaeConfig {
    fn default() -> Self {
        MaeConfig {
            mask_ratio: 0.75,
            decoder_width: 512,
            decoder_depth: 8,
            decoder_heads: 16,
            normalize_patches: true,
        }
    }
}

impl MaeConfig {
    /// The number of visible patches among `patches`.
    ///
    /// # Errors
    /// When no patch would be visible, or all.
    pub fn visible(&self, patches: i64) -> Result<i64> {
        let visible = (patches as f64 * (1.0 - self.mask_ratio)) as i64;
        ensure_setting(self.mask_ratio.is_finite() && visible >= 1 && visible < patches, || {
            format!(
                "a mask_ratio of {} leaves {visible} of {patches} patches visible; at least \
                 one must be visible and one hidden (0.75 in the paper)",
                self.mask_ratio
            )
        })?;
        Ok(visible)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// When a setting is out of range; the message names it and its range.
    pub fn validate(&self) -> Result<()> {
        ensure_setting((0.0..1.0).contains(&self.mask_ratio), || {
            format!(
                "mask_ratio is {}; it must be from 0 to below 1 (0.75 in the paper)",
                self.mask_ratio
            )
        })?;
        ensure_setting((1..=100).contains(&self.decoder_depth), || {
            "decoder_depth must be from 1 to 100".to_owned()
        })?;
        let (width, heads) = (self.decoder_width, self.decoder_heads);
        ensure_setting(heads >= 1 && width >= 4 && width % 4 == 0 && width % heads == 0, || {
            format!(
                "decoder_width is {width} and decoder_heads {heads}; the width must be a \
                 multiple of 4 and of the heads"
            )
        })?;
        Ok(())
    }
}
