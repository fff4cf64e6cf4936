//! DINOv2's settings.

use portolan_method::{DinoHeadConfig, Result, ensure_setting};
use serde::{Deserialize, Serialize};

/// The settings of DINOv2. The defaults are those of the authors' `ssl_default_config.yaml`, which
/// is also their `vitl16_short.yaml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dinov2Config {
    /// The head of the class tokens, and of the masked patches if they have none of their own.
    pub head: HeadConfig,
    /// The head of the masked patches; none by default: both share a head
    /// (`ibot.separate_head: false`). The `vitl14` and `vitg14` configs have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ibot_head: Option<HeadConfig>,
    /// How the teacher's outputs become targets: by a softmax with a center
    /// (`train.centering: centering`).
    pub centering: Centering,
    /// m, the momentum of the centers: 0.9 (`DINOLoss`, `iBOTPatchLoss`). 1 turns centering off.
    pub center_momentum: f64,
    /// τ_s: 0.1 (`DINOLoss`, `iBOTPatchLoss`).
    pub student_temperature: f64,
    /// τ_t after its warm-up: 0.07.
    pub teacher_temperature: f64,
    /// τ_t at the first step: 0.04.
    pub teacher_temperature_start: f64,
    /// Epochs over which τ_t rises: 30.
    pub teacher_temperature_epochs: u64,
    /// The momentum of the teacher at the first step: 0.992. It rises to 1 along a cosine.
    pub momentum: f64,
    /// Epochs during which the heads' last layers are frozen: 1 (`freeze_last_layer_epochs`).
    pub freeze_last_layer: u64,
    /// Epochs, or which part of one, during which the encoder is frozen and only the heads are
    /// trained: 0. For an encoder that starts from released weights, which have no heads
    /// (`student_freeze_backbone_steps` in lightly-train). The frozen encoder costs no backward
    /// pass.
    #[serde(default)]
    pub freeze_encoder: f64,
    /// The factor of the encoder's learning rate to that of the heads: 1. Below 1 for a trained
    /// encoder with new heads.
    #[serde(default = "one")]
    pub encoder_rate: f64,
    /// The scale of the loss of class tokens: 1 (`dino.loss_weight`). 0 turns it off.
    pub dino_loss_scale: f64,
    /// The scale of the loss of masked patches: 1 (`ibot.loss_weight`). 0 turns it off, and nothing
    /// is masked.
    pub ibot_loss_scale: f64,
    /// The scale of KoLeo, for each global view: 0.1 (`dino.koleo_loss_weight`). 0 turns it off.
    pub koleo_loss_scale: f64,
    /// The share of global views with a mask: 0.5 (`ibot.mask_sample_probability`).
    pub mask_probability: f64,
    /// The smallest and the largest share of masked patches: 0.1 and 0.5
    /// (`ibot.mask_ratio_min_max`).
    pub mask_ratio: [f64; 2],
    /// The factor of the learning rate from a block to the one before: 0.9
    /// (`optim.layerwise_decay`).
    pub layer_decay: f64,
    /// The further factor of the patch projection's learning rate: 0.2
    /// (`optim.patch_embed_lr_mult`).
    pub patch_embed_rate: f64,
    /// The largest norm of the gradients of the encoder, and of those of each head: 3
    /// (`optim.clip_grad`). 0 turns clipping off.
    pub clip: f64,
}

/// The sizes of a head: linear layers with GELU between them, an l2-normalized bottleneck, and a
/// last layer with weight normalization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// Layers before the last: 3 (`head_nlayers`).
    pub layers: usize,
    /// Width of its hidden layers: 2,048 (`head_hidden_dim`).
    pub hidden: i64,
    /// Dimensions of its bottleneck: 256 (`head_bottleneck_dim`).
    pub bottleneck: i64,
    /// K, its prototypes: 65,536 (`head_n_prototypes`).
    pub dim: i64,
}

/// How the teacher's outputs become targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Centering {
    /// A softmax of the outputs minus their running mean, as in DINO. The class tokens and the
    /// patches have a center each.
    Softmax,
    /// Three iterations of Sinkhorn–Knopp over the batch of all processes, as in SwAV.
    SinkhornKnopp,
}

fn one() -> f64 {
    1.0
}

impl Default for HeadConfig {
    fn default() -> Self {
        HeadConfig { layers: 3, hidden: 2048, bottleneck: 256, dim: 65_536 }
    }
}

impl Default for Dinov2Config {
    fn default() -> Self {
        Dinov2Config {
            head: HeadConfig::default(),
            ibot_head: None,
            centering: Centering::Softmax,
            center_momentum: 0.9,
            student_temperature: 0.1,
            teacher_temperature: 0.07,
            teacher_temperature_start: 0.04,
            teacher_temperature_epochs: 30,
            momentum: 0.992,
            freeze_last_layer: 1,
            freeze_encoder: 0.0,
            encoder_rate: 1.0,
            dino_loss_scale: 1.0,
            ibot_loss_scale: 1.0,
            koleo_loss_scale: 0.1,
            mask_probability: 0.5,
            mask_ratio: [0.1, 0.5],
            layer_decay: 0.9,
            patch_embed_rate: 0.2,
            clip: 3.0,
        }
    }
}

impl HeadConfig {
    /// As in the authors' `dino_head.py`: no batch norms, and the last layer's rows have lengths
    /// that are trained, from 1.
    pub(crate) fn sizes(self) -> DinoHeadConfig {
        let HeadConfig { layers, hidden, bottleneck, dim } = self;
        let (batch_norm, norm_last_layer) = (false, false);
        DinoHeadConfig { layers, hidden, bottleneck, dim, batch_norm, norm_last_layer }
    }

    fn validate(self, name: &str) -> Result<()> {
        ensure_setting((1..=8).contains(&self.layers), || {
            format!("{name}.layers is {}; a head has from 1 to 8 (3 in the paper)", self.layers)
        })?;
        ensure_setting(self.hidden >= 1 && self.bottleneck >= 1 && self.dim >= 2, || {
            format!("{name}.hidden and bottleneck must be at least 1, dim at least 2")
        })
    }
}

impl Dinov2Config {
    /// τ_t at this step (counted from 0): it rises linearly from the first step on, then stays at
    /// its final value.
    pub fn teacher_temperature(&self, step: u64, steps_per_epoch: u64) -> f64 {
        let (start, end) = (self.teacher_temperature_start, self.teacher_temperature);
        let steps = self.teacher_temperature_epochs.saturating_mul(steps_per_epoch);
        if step >= steps {
            return end;
        }
        let intervals = steps.saturating_sub(1).max(1);
        start + (end - start) * step as f64 / intervals as f64
    }

    /// The head of the masked patches where it is not the class tokens'.
    pub(crate) fn own_ibot_head(&self) -> Option<HeadConfig> {
        self.ibot_head.filter(|_| self.ibot_loss_scale > 0.0)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// When a setting is out of range; the message names it and its range.
    pub fn validate(&self) -> Result<()> {
        self.head.validate("head")?;
        self.ibot_head.map_or(Ok(()), |head| head.validate("ibot_head"))?;
        for (name, value) in [
            ("student_temperature", self.student_temperature),
            ("teacher_temperature", self.teacher_temperature),
            ("teacher_temperature_start", self.teacher_temperature_start),
            ("layer_decay", self.layer_decay),
            ("patch_embed_rate", self.patch_embed_rate),
            ("encoder_rate", self.encoder_rate),
        ] {
            ensure_setting(value > 0.0 && value.is_finite(), || {
                format!("{name} is {value}; it must be above 0")
            })?;
        }
        for (name, value) in [
            ("momentum", self.momentum),
            ("center_momentum", self.center_momentum),
            ("mask_probability", self.mask_probability),
        ] {
            ensure_setting((0.0..=1.0).contains(&value), || {
                format!("{name} is {value}; it must be from 0 to 1")
            })?;
        }
        for (name, value) in [
            ("dino_loss_scale", self.dino_loss_scale),
            ("ibot_loss_scale", self.ibot_loss_scale),
            ("koleo_loss_scale", self.koleo_loss_scale),
            ("clip", self.clip),
            ("freeze_encoder", self.freeze_encoder),
        ] {
            ensure_setting(value >= 0.0 && value.is_finite(), || {
                format!("{name} is {value}; it must be a number from 0 on, where 0 turns it off")
            })?;
        }
        ensure_setting(self.dino_loss_scale + self.ibot_loss_scale > 0.0, || {
            "dino_loss_scale and ibot_loss_scale are both 0; one must be above 0".to_owned()
        })?;
        let [least, most] = self.mask_ratio;
        ensure_setting(0.0 <= least && least <= most && 0.0 < most && most < 1.0, || {
            format!(
                "mask_ratio is [{least}, {most}]; it must be two shares below 1, the smaller first \
                 (0.1 and 0.5 in the authors' code)"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_teachers_temperature_warms_up_at_every_step_as_in_the_authors_code() {
        // CosineScheduler: np.linspace(0.04, 0.07, 30 epochs of 10 steps), then 0.07.
        let config = Dinov2Config::default();
        let at = |step| config.teacher_temperature(step, 10);
        assert_eq!(at(0), 0.04);
        assert!((at(1) - (0.04 + 0.03 / 299.0)).abs() < 1e-12);
        assert!((at(299) - 0.07).abs() < 1e-12);
        assert_eq!(at(300), 0.07);
        let none = Dinov2Config { teacher_temperature_epochs: 0, ..config };
        assert_eq!(none.teacher_temperature(0, 10), 0.07);
    }
}
