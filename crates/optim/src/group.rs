//! Parameter groups: parameters that an optimizer treats alike.

use portolan_tensor::Tensor;
use serde::{Deserialize, Serialize};

/// How a group's learning rate follows from the scheduled one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LrRule {
    /// The scheduled rate times this factor; 1 in most groups.
    Scaled(f64),
    /// Always the schedule's base rate. SimSiam's predictor keeps it while the rest decays (section
    /// 4.2 of its paper).
    Base,
}

impl LrRule {
    /// The group's rate, given the scheduled rate `lr` and the schedule's `base`.
    pub fn rate(self, lr: f64, base: f64) -> f64 {
        match self {
            LrRule::Scaled(factor) => lr * factor,
            LrRule::Base => base,
        }
    }
}

/// Named parameters that an optimizer treats alike.
#[derive(Debug)]
pub struct ParamGroup {
    /// The group's name in errors.
    pub name: String,
    /// The parameters (shallow clones) and their names, which are unique over all groups.
    pub params: Vec<(String, Tensor)>,
    /// The group's learning rate.
    pub lr: LrRule,
    /// Whether the optimizer's weight decay applies.
    pub weight_decay: bool,
    /// Whether LARS adapts the rate to the norms of each parameter and its gradient. Other
    /// optimizers ignore it.
    pub lars_adaptation: bool,
    /// For how many epochs, or which part of one, the group is frozen: neither parameters nor
    /// buffers change. 0 in most groups; 1 for DINO's last layer.
    pub frozen_epochs: f64,
}

impl ParamGroup {
    /// One group with weight decay for all parameters, biases and norms included, as in MoCo and
    /// the CIFAR-10 benchmarks.
    pub fn all(name: impl Into<String>, params: Vec<(String, Tensor)>) -> Self {
        ParamGroup {
            name: name.into(),
            params,
            lr: LrRule::Scaled(1.0),
            weight_decay: true,
            lars_adaptation: true,
            frozen_epochs: 0.0,
        }
    }

    /// Two groups, as in SimCLR, BYOL, MoCo v3 and DINO. Matrices and kernels have weight decay and
    /// are adapted by LARS; one-dimensional parameters (biases and norms), in a group named
    /// `NAME.no_decay`, have neither. An empty group is left out.
    pub fn split_decay(name: &str, params: Vec<(String, Tensor)>) -> Vec<Self> {
        ParamGroup::all(name, params).split_flat()
    }

    /// Splits the group as [`split_decay`](Self::split_decay) does, keeping its rate and freezing.
    fn split_flat(self) -> Vec<Self> {
        let (flat, deep): (Vec<_>, Vec<_>) =
            self.params.into_iter().partition(|(_, p)| p.dim() <= 1);
        let (lr, frozen_epochs) = (self.lr, self.frozen_epochs);
        let (weight_decay, lars_adaptation) = (self.weight_decay, self.lars_adaptation);
        let part = |name, params, exempt: bool| ParamGroup {
            name,
            params,
            lr,
            weight_decay: weight_decay && !exempt,
            lars_adaptation: lars_adaptation && !exempt,
            frozen_epochs,
        };
        let undecayed = part(format!("{}.no_decay", self.name), flat, true);
        let groups = [part(self.name, deep, false), undecayed].into_iter();
        groups.filter(|group| !group.params.is_empty()).collect()
    }
}

/// Which parameters have weight decay and are adapted by LARS. A recipe chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// All, biases and norms included: MoCo, SimSiam, and the CIFAR-10 benchmarks.
    All,
    /// Matrices and kernels only: SimCLR, BYOL, MoCo v3, DINO, MAE.
    Matrices,
}

impl Decay {
    /// Applies the choice to a method's groups.
    pub fn apply(self, groups: Vec<ParamGroup>) -> Vec<ParamGroup> {
        match self {
            Decay::All => groups,
            Decay::Matrices => groups.into_iter().flat_map(ParamGroup::split_flat).collect(),
        }
    }
}
