//! DINO's settings.

use portolan_method::{DinoHeadConfig, Result, ensure_setting};
use serde::{Deserialize, Serialize};

/// The settings of DINO. The defaults are the paper's for ImageNet and a ViT-S/16, or those of
/// `main_dino.py` where a flag is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DinoConfig {
    /// Layers of the projection head before the last: 3 (section 3.1).
    pub layers: usize,
    /// Width of its hidden layers: 2,048 (section 3.1).
    pub hidden: i64,
    /// Dimensions of its l2-normalized bottleneck: 256 (appendix C).
    pub bottleneck: i64,
    /// K, the dimensions of an output: 65,536 (appendix C).
    pub dim: i64,
    /// Whether the head has batch norms: no with a ViT, so that the whole system is free of them
    /// (section 3.1).
    pub batch_norm: bool,
    /// Whether the rows of the last layer have a fixed norm of one: true (`--norm_last_layer`).
    /// With false, features are better if training stays stable, as for the published ViT-S/16.
    pub norm_last_layer: bool,
    /// τ_s: 0.1 (section 3.2).
    pub student_temperature: f64,
    /// τ_t after its warm-up: 0.04 in the code's default, 0.07 for the published ViT-S (section
    /// 3.2, appendix D). A lower temperature gives sharper targets; at 1 outputs become uniform.
    pub teacher_temperature: f64,
    /// τ_t in the first epoch: 0.04 (section 3.2).
    pub teacher_temperature_start: f64,
    /// Epochs over which τ_t rises: 30 (section 3.2).
    pub teacher_temperature_epochs: u64,
    /// m, the momentum of the center: 0.9 (appendix D). 1 turns centering off, since the center
    /// stays at zero; then one dimension dominates the outputs.
    pub center_momentum: f64,
    /// λ, the momentum of the teacher at the first update: 0.996 (section 3.1). It rises to 1 along
    /// a cosine.
    pub momentum: f64,
    /// Epochs during which the last layer is frozen: 1 (`--freeze_last_layer`).
    pub freeze_last_layer: u64,
    /// The largest norm of each parameter's gradient; 0 turns clipping off: 3 (`--clip_grad`; 0 for
    /// the published ViT-S/16).
    pub clip: f64,
}

impl Default for DinoConfig {
    fn default() -> Self {
        DinoConfig {
            layers: 3,
            hidden: 2048,
            bottleneck: 256,
            dim: 65_536,
            batch_norm: false,
            norm_last_layer: true,
            student_temperature: 0.1,
            teacher_temperature: 0.07,
            teacher_temperature_start: 0.04,
            teacher_temperature_epochs: 30,
            center_momentum: 0.9,
            momentum: 0.996,
            freeze_last_layer: 1,
            clip: 3.0,
        }
    }
}

impl DinoConfig {
    /// τ_t in this epoch (counted from 0): it rises linearly, then stays at its final value.
    pub fn teacher_temperature(&self, epoch: u64) -> f64 {
        let (start, end) = (self.teacher_temperature_start, self.teacher_temperature);
        if epoch >= self.teacher_temperature_epochs {
            return end;
        }
        let intervals = self.teacher_temperature_epochs.saturating_sub(1).max(1);
        start + (end - start) * epoch as f64 / intervals as f64
    }

    pub(crate) fn head(&self) -> DinoHeadConfig {
        let &DinoConfig { layers, hidden, bottleneck, dim, batch_norm, norm_last_layer, .. } = self;
        DinoHeadConfig { layers, hidden, bottleneck, dim, batch_norm, norm_last_layer }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// When a setting is out of range; the message names it and its range.
    pub fn validate(&self) -> Result<()> {
        ensure_setting((1..=8).contains(&self.layers), || {
            format!("layers is {}; a head has from 1 to 8 (3 in the paper)", self.layers)
        })?;
        ensure_setting(self.hidden >= 1 && self.bottleneck >= 1 && self.dim >= 2, || {
            "hidden and bottleneck must be at least 1, dim at least 2".to_owned()
        })?;
        for (name, value) in [
            ("student_temperature", self.student_temperature),
            ("teacher_temperature", self.teacher_temperature),
            ("teacher_temperature_start", self.teacher_temperature_start),
        ] {
            ensure_setting(value > 0.0 && value.is_finite(), || {
                format!("{name} is {value}; it must be above 0")
            })?;
        }
        for (name, value) in
            [("momentum", self.momentum), ("center_momentum", self.center_momentum)]
        {
            ensure_setting((0.0..=1.0).contains(&value), || {
                format!("{name} is {value}; it must be from 0 to 1")
            })?;
        }
        ensure_setting(self.clip >= 0.0 && self.clip.is_finite(), || {
            format!("clip is {}; 0 is none", self.clip)
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_teachers_temperature_warms_up_as_in_the_authors_code() {
        // np.linspace(0.04, 0.07, 30), then 0.07.
        let config = DinoConfig::default();
        assert_eq!(config.teacher_temperature(0), 0.04);
        assert!((config.teacher_temperature(1) - (0.04 + 0.03 / 29.0)).abs() < 1e-12);
        assert!((config.teacher_temperature(29) - 0.07).abs() < 1e-12);
        assert_eq!(config.teacher_temperature(30), 0.07);
        let none = DinoConfig { teacher_temperature_epochs: 0, ..config };
        assert_eq!(none.teacher_temperature(0), 0.07);
    }
}
