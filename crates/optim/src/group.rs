//! Which parameters an optimizer moves, and how each group of them is treated.

use portolan_tensor::Tensor;
use serde::{Deserialize, Serialize};

/// The learning rate of a group, made from the scheduled one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LrRule {
    /// The scheduled rate times this factor; 1 for most.
    Scaled(f64),
    /// The rate that the schedule starts from, at every step: SimSiam's predictor keeps it while the rest
    /// decays (section 4.2 of its paper).
    Base,
}

impl LrRule {
    /// The group's rate where the schedule says `lr` and starts from `base`.
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
    /// What the group is called in errors.
    pub name: String,
    /// The parameters (shallow clones) by their names, which are unique over all groups.
    pub params: Vec<(String, Tensor)>,
    /// The group's learning rate.
    pub lr: LrRule,
    /// Whether the optimizer's weight decay applies.
    pub weight_decay: bool,
    /// Whether LARS adapts the rate to the norms of each parameter and its gradient. Other optimizers
    /// pay no attention to it.
    pub lars_adaptation: bool,
    /// For how many epochs the group keeps still: neither parameters nor buffers change. 0 for most; DINO
    /// keeps its last layer still for one.
    pub frozen_epochs: u64,
}

impl ParamGroup {
    /// One group of everything, which decays all of it, biases and norms included: as MoCo and the
    /// CIFAR-10 benchmarks do.
    pub fn all(name: impl Into<String>, params: Vec<(String, Tensor)>) -> Self {
        ParamGroup {
            name: name.into(),
            params,
            lr: LrRule::Scaled(1.0),
            weight_decay: true,
            lars_adaptation: true,
            frozen_epochs: 0,
        }
    }

    /// Two groups: matrices and kernels decay and are adapted by LARS; one-dimensional parameters (biases
    /// and norms), in a group named `NAME.no_decay`, are neither: as SimCLR, BYOL, MoCo v3 and DINO do.
    /// A group that would be empty is left out.
    pub fn split_decay(name: &str, params: Vec<(String, Tensor)>) -> Vec<Self> {
        ParamGroup::all(name, params).spare_flat()
    }

    /// The same group with its one-dimensional parameters in one of their own, as in
    /// [`split_decay`](Self::split_decay); rate and freezing are kept.
    fn spare_flat(self) -> Vec<Self> {
        let (flat, deep): (Vec<_>, Vec<_>) =
            self.params.into_iter().partition(|(_, p)| p.dim() <= 1);
        let (lr, frozen_epochs) = (self.lr, self.frozen_epochs);
        let (weight_decay, lars_adaptation) = (self.weight_decay, self.lars_adaptation);
        let part = |name, params, spared: bool| ParamGroup {
            name,
            params,
            lr,
            weight_decay: weight_decay && !spared,
            lars_adaptation: lars_adaptation && !spared,
            frozen_epochs,
        };
        let undecayed = part(format!("{}.no_decay", self.name), flat, true);
        let groups = [part(self.name, deep, false), undecayed].into_iter();
        groups.filter(|group| !group.params.is_empty()).collect()
    }
}

/// Which parameters decay, and are adapted by LARS: the recipe's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// All of them, biases and norms too: MoCo, SimSiam, and the CIFAR-10 benchmarks.
    All,
    /// Matrices and kernels only: SimCLR, BYOL, MoCo v3, DINO, MAE.
    Matrices,
}

impl Decay {
    /// A method's groups with the choice applied.
    pub fn apply(self, groups: Vec<ParamGroup>) -> Vec<ParamGroup> {
        match self {
            Decay::All => groups,
            Decay::Matrices => groups.into_iter().flat_map(ParamGroup::spare_flat).collect(),
        }
    }
}
