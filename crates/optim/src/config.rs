//! A recipe's settings of the optimizer.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The optimizer and its settings: `{ kind = "sgd", momentum = 0.9, weight_decay = 1e-4 }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent with momentum, as `torch.optim.SGD`.
    Sgd {
        /// The weight of the last update in the next; 0.9 in most papers.
        momentum: f64,
        /// The L2 penalty: this times the parameter is added to the gradient.
        weight_decay: f64,
        /// Whether to use Nesterov momentum; false by default.
        #[serde(default)]
        nesterov: bool,
    },
    /// Layer-wise adaptive rate scaling (You, Gitman, Ginsburg, 2017, arXiv:1708.03888) over SGD
    /// with momentum, for batches of thousands of images.
    Lars {
        /// The weight of the last update in the next; 0.9.
        momentum: f64,
        /// The L2 penalty: this times the parameter is added to the gradient.
        weight_decay: f64,
        /// η, the scale of a step relative to the parameter's norm; 0.001.
        trust_coefficient: f64,
        /// Which of the four published updates.
        form: LarsForm,
    },
    /// Adam with decoupled weight decay (Loshchilov, Hutter, 2017, arXiv:1711.05101), as
    /// `torch.optim.AdamW`.
    Adamw {
        /// The decay rates β₁, β₂ of the two moments; (0.9, 0.999), in MAE (0.9, 0.95).
        betas: [f64; 2],
        /// ε, which keeps the quotient finite; 1e-8.
        eps: f64,
        /// λ: a step first subtracts this times the learning rate of a parameter from it.
        weight_decay: f64,
    },
}

/// The four updates that are called LARS. With parameter p, gradient g, weight decay λ, trust
/// coefficient η, scheduled rate lr, momentum m, direction d and momentum buffer v they are:
///
/// | form | direction d | update |
/// |---|---|---|
/// | `lightly` | η‖p‖ / (‖g‖ + λ‖p‖) · (g + λp) | v ← mv + d, p ← p − lr·v |
/// | `authors` | η‖p‖ / ‖g + λp‖ · (g + λp) | v ← mv + d, p ← p − lr·v |
/// | `simclr` | as `authors` | v ← mv + lr·d, p ← p − v |
/// | `solo_learn` | min(η‖p‖ / (‖g‖ + λ‖p‖) / lr, 1) · (g + λp) | v ← mv + d, p ← p − lr·v |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LarsForm {
    /// Equation 6 of the paper, as in lightly. A parameter without weight decay is not adapted
    /// either.
    Lightly,
    /// The code of the authors of BYOL, Barlow Twins, VICReg and MoCo v3.
    Authors,
    /// The code of SimCLR's authors (`lars_optimizer.py`, `classic_momentum`): the rate is inside
    /// the momentum, so that a step remembers earlier rates. It differs from `authors` while the
    /// rate changes.
    Simclr,
    /// solo-learn with `clip_lr` (`solo/utils/lars.py`): the smaller of the local and the scheduled
    /// rate, not their product.
    SoloLearn,
}

impl OptimizerConfig {
    /// The weight decay λ of groups with weight decay.
    pub fn weight_decay(&self) -> f64 {
        match *self {
            OptimizerConfig::Sgd { weight_decay, .. }
            | OptimizerConfig::Lars { weight_decay, .. }
            | OptimizerConfig::Adamw { weight_decay, .. } => weight_decay,
        }
    }

    pub(crate) fn set_weight_decay(&mut self, value: f64) {
        match self {
            OptimizerConfig::Sgd { weight_decay, .. }
            | OptimizerConfig::Lars { weight_decay, .. }
            | OptimizerConfig::Adamw { weight_decay, .. } => *weight_decay = value,
        }
    }

    /// Checks that all values are in range.
    ///
    /// # Errors
    /// When one is not. The message names it.
    pub fn validate(&self) -> Result<()> {
        not_negative("weight_decay", self.weight_decay())?;
        match *self {
            OptimizerConfig::Sgd { momentum, nesterov, .. } => {
                below_one("momentum", momentum)?;
                if nesterov && momentum == 0.0 {
                    let message = "`nesterov` needs a `momentum` above 0".to_owned();
                    return Err(Error::Setting { name: "nesterov", message });
                }
            }
            OptimizerConfig::Lars { momentum, trust_coefficient, .. } => {
                below_one("momentum", momentum)?;
                in_range(
                    "trust_coefficient",
                    trust_coefficient,
                    trust_coefficient > 0.0 && trust_coefficient.is_finite(),
                    "above 0",
                )?;
            }
            OptimizerConfig::Adamw { betas: [beta1, beta2], eps, .. } => {
                below_one("betas[0]", beta1)?;
                below_one("betas[1]", beta2)?;
                not_negative("eps", eps)?;
            }
        }
        Ok(())
    }
}

fn below_one(name: &'static str, value: f64) -> Result<()> {
    in_range(name, value, (0.0..1.0).contains(&value), "from 0 to below 1")
}

pub(crate) fn not_negative(name: &'static str, value: f64) -> Result<()> {
    in_range(name, value, value >= 0.0 && value.is_finite(), "a number that is not negative")
}

fn in_range(name: &'static str, value: f64, holds: bool, range: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Setting { name, message: format!("`{name}` is {value}, but must be {range}") })
}

/// How a recipe's learning rate scales with the batch size: `{ kind = "linear", base = 256 }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LrScaling {
    /// Times batch / `base`. 256 in Goyal et al., 2017 (arXiv:1706.02677) and most papers; 128 in
    /// lightly's CIFAR-10 benchmark.
    Linear {
        /// The batch size at which the rate is the recipe's.
        base: u64,
    },
    /// Times √(batch / `base`): SimCLR's 0.075 · √batch for small batches (appendix B.1), DINOv2's
    /// 0.004 · √(batch / 1024).
    Sqrt {
        /// The batch size at which the rate is the recipe's; 1 by default.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        base: u64,
    },
    /// No scaling.
    #[default]
    None,
}

fn one() -> u64 {
    1
}

fn is_one(base: &u64) -> bool {
    *base == 1
}

impl LrScaling {
    /// The learning rate for batches of `batch` images, over all processes and micro-batches.
    pub fn scale(self, lr: f64, batch: u64) -> f64 {
        match self {
            LrScaling::Linear { base } => lr * batch as f64 / base as f64,
            LrScaling::Sqrt { base } => lr * (batch as f64 / base as f64).sqrt(),
            LrScaling::None => lr,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_recipe_names_the_optimizer_and_misspells_nothing() {
        let read = |text: &str| toml::from_str::<OptimizerConfig>(text);
        let sgd = read("kind = 'sgd'\nmomentum = 0.9\nweight_decay = 1e-4").unwrap();
        assert_eq!(
            sgd,
            OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 1e-4, nesterov: false }
        );
        let lars = "kind = 'lars'\nmomentum = 0.9\nweight_decay = 1e-6\ntrust_coefficient = 1e-3";
        for form in ["lightly", "authors", "simclr", "solo_learn"] {
            assert!(read(&format!("{lars}\nform = '{form}'")).is_ok(), "{form}");
        }
        assert!(read(&format!("{lars}\nform = 'mine'")).is_err());
        let error = read("kind = 'sgd'\nmomentun = 0.9\nweight_decay = 0.0").unwrap_err();
        assert!(error.to_string().contains("momentun"), "{error}");
        assert_eq!(read(&toml::to_string(&sgd).unwrap()).unwrap(), sgd);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let sgd = |momentum, weight_decay, nesterov| {
            OptimizerConfig::Sgd { momentum, weight_decay, nesterov }.validate()
        };
        assert!(sgd(0.9, 1e-4, true).is_ok());
        for (wrong, name) in [
            (sgd(1.0, 0.0, false), "momentum"),
            (sgd(0.9, -1.0, false), "weight_decay"),
            (sgd(0.9, f64::NAN, false), "weight_decay"),
            (sgd(0.0, 0.0, true), "nesterov"),
            (
                OptimizerConfig::Adamw { betas: [0.9, 1.5], eps: 1e-8, weight_decay: 0.0 }
                    .validate(),
                "betas[1]",
            ),
        ] {
            let error = wrong.unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn rates_grow_with_the_batch_as_the_recipe_says() {
        assert_eq!(LrScaling::Linear { base: 256 }.scale(0.03, 512), 0.06);
        assert_eq!(LrScaling::Linear { base: 128 }.scale(0.03, 512), 0.12);
        assert_eq!(LrScaling::Sqrt { base: 1 }.scale(0.075, 4096), 4.8);
        assert_eq!(LrScaling::Sqrt { base: 1024 }.scale(0.004, 4096), 0.008);
        assert_eq!(LrScaling::None.scale(0.06, 512), 0.06);
        let linear: LrScaling = toml::from_str("kind = 'linear'\nbase = 128").unwrap();
        assert_eq!(linear, LrScaling::Linear { base: 128 });
        let sqrt: LrScaling = toml::from_str("kind = 'sqrt'").unwrap();
        assert_eq!(sqrt, LrScaling::Sqrt { base: 1 });
        assert_eq!(toml::to_string(&sqrt).unwrap().trim(), "kind = \"sqrt\"");
    }
}
