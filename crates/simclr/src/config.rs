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
    /// What is minimized: the paper's loss, or its two forces by themselves.
    #[serde(default)]
    pub objective: Objective,
}

/// What SimCLR minimizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Objective {
    /// The normalized temperature-scaled cross entropy (section 2.1).
    #[default]
    NtXent,
    /// The weighted sum of [`alignment`](portolan_losses::alignment()) and
    /// [`uniformity`](portolan_losses::uniformity()), to which NT-Xent tends with ever more
    /// negatives (Wang and Isola 2020, arXiv 2005.10242, section 4.1, with α = 2 and t = 2).
    AlignmentUniformity {
        /// The weight of alignment: 1 in the paper's basic form.
        alignment: f64,
        /// The weight of uniformity, of which both views have half: 1 likewise.
        uniformity: f64,
    },
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
            objective: Objective::NtXent,
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
        if let Objective::AlignmentUniformity { alignment, uniformity } = self.objective {
            let weight = |it: f64| it.is_finite() && it >= 0.0;
            ensure_setting(
                weight(alignment) && weight(uniformity) && alignment + uniformity > 0.0,
                || {
                    format!(
                        "the weights of alignment and uniformity are {alignment} and {uniformity}; \
                         they must be 0 or more, and not both 0"
                    )
                },
            )?;
        }
        validate_loss_scale(self.loss_scale)
    }
}
