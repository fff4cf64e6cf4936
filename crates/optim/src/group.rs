//! Which parameters an optimiser moves, and how each group of them is treated.

use portolan_tensor::Tensor;

/// The learning rate of a group, made from the scheduled one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LrRule {
    /// The scheduled rate times this factor; 1 for most.
    Scaled(f64),
    /// This rate at every step: SimSiam's predictor keeps the base rate while the rest decays.
    Fixed(f64),
}

impl LrRule {
    /// The group's rate where the schedule says `lr`.
    pub fn rate(self, lr: f64) -> f64 {
        match self {
            LrRule::Scaled(factor) => lr * factor,
            LrRule::Fixed(rate) => rate,
        }
    }
}

/// Named parameters that an optimiser treats alike.
#[derive(Debug)]
pub struct ParamGroup {
    /// What the group is called in errors.
    pub name: String,
    /// The parameters (shallow clones) by their names, which are unique over all groups.
    pub params: Vec<(String, Tensor)>,
    /// The group's learning rate.
    pub lr: LrRule,
    /// Whether the optimiser's weight decay applies.
    pub weight_decay: bool,
    /// Whether LARS adapts the rate to the norms of each parameter and its gradient. Other optimisers
    /// pay no attention to it.
    pub lars_adaptation: bool,
    /// The first step at which the group moves: before it, neither parameters nor buffers change. 0 for
    /// most; DINO keeps the last layer still for an epoch.
    pub frozen_until: u64,
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
            frozen_until: 0,
        }
    }

    /// Two groups: matrices and kernels decay and are adapted by LARS; one-dimensional parameters (biases
    /// and norms), in a group named `NAME.no_decay`, are neither: as SimCLR, BYOL, MoCo v3 and DINO do.
    /// A group that would be empty is left out.
    pub fn split_decay(name: &str, params: Vec<(String, Tensor)>) -> Vec<Self> {
        let (flat, deep): (Vec<_>, Vec<_>) = params.into_iter().partition(|(_, p)| p.dim() <= 1);
        let decayed = ParamGroup::all(name, deep);
        let mut undecayed = ParamGroup::all(format!("{name}.no_decay"), flat);
        undecayed.weight_decay = false;
        undecayed.lars_adaptation = false;
        let groups = [decayed, undecayed].into_iter();
        groups.filter(|group| !group.params.is_empty()).collect()
    }
}
