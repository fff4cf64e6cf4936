//! The optimizer: parameter groups, their buffers, and the step.

use portolan_tensor::foreach::{self, Adamw, Moments, Sgd};
use portolan_tensor::{Device, Kind, Tensor, no_grad, scalar};
use std::collections::HashSet;

use crate::config::{OptimizerConfig, not_negative};
use crate::group::ParamGroup;
use crate::lars::{self, Lars};
use crate::{Error, Result};

/// Updates the parameters of its groups by their gradients.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    base_lr: f64,
    groups: Vec<Group>,
}

/// A parameter group and its buffers, in the order of its parameters.
#[derive(Debug)]
struct Group {
    settings: ParamGroup,
    buffers: Buffers,
    /// Whether the group is frozen in this step.
    frozen: bool,
    /// The learning rate, a scalar on the parameters' device.
    lr: Tensor,
    /// AdamW: the factor 1 − lr·λ of the weight decay, likewise.
    decay: Tensor,
}

#[derive(Debug)]
enum Buffers {
    /// SGD and LARS; `None` without momentum.
    Momentum(Option<Vec<Tensor>>),
    /// AdamW.
    Moments(Moments),
}

impl Buffers {
    fn new(config: &OptimizerConfig, params: &[(String, Tensor)]) -> Self {
        let zeros = || -> Vec<Tensor> {
            params.iter().map(|(_, param)| param.zeros_like().set_requires_grad(false)).collect()
        };
        match *config {
            OptimizerConfig::Sgd { momentum, .. } | OptimizerConfig::Lars { momentum, .. } => {
                Buffers::Momentum((momentum > 0.0).then(zeros))
            }
            OptimizerConfig::Adamw { .. } => {
                let count = |(_, param): &(String, Tensor)| {
                    Tensor::zeros([], (Kind::Float, param.device()))
                };
                let steps = params.iter().map(count).collect();
                Buffers::Moments(Moments { means: zeros(), squares: zeros(), steps })
            }
        }
    }

    /// The lists by name.
    fn named(&self) -> Vec<(&'static str, &[Tensor])> {
        match self {
            Buffers::Momentum(buffers) => {
                buffers.iter().map(|buffers| ("momentum", &buffers[..])).collect()
            }
            Buffers::Moments(Moments { means, squares, steps }) => {
                vec![("mean", means), ("square", squares), ("steps", steps)]
            }
        }
    }
}

impl Optimizer {
    /// An optimizer over `groups`, with buffers of zeros on the parameters' devices. `base_lr` is
    /// the schedule's base rate, which groups of [`LrRule::Base`](crate::LrRule) keep.
    ///
    /// # Errors
    /// When a setting is out of range, there are no parameters, a name or a tensor appears twice,
    /// or a tensor does not require gradients.
    pub fn new(config: OptimizerConfig, base_lr: f64, groups: Vec<ParamGroup>) -> Result<Self> {
        config.validate()?;
        not_negative("base_lr", base_lr)?;
        validate_params(&groups)?;
        let groups = groups.into_iter().map(|settings| Group::new(&config, settings)).collect();
        Ok(Optimizer { config, base_lr, groups })
    }

    /// Updates every parameter that has a gradient, in place. `lr` is the scheduled rate; `epochs`,
    /// the epochs done before this step (0.5 is half of the first), decides which groups are
    /// frozen. A parameter without a gradient or in a frozen group does not change, nor do its
    /// buffers: it does not decay either.
    ///
    /// # Errors
    /// When `lr` is negative or not a number, in which case nothing changes, or libtorch refuses.
    pub fn step(&mut self, lr: f64, epochs: f64) -> Result<()> {
        self.schedule(lr, epochs)?;
        self.apply()
    }

    /// The first half of [`Optimizer::step`], on numbers: sets the rates, which
    /// [`Optimizer::apply`] reads from tensors, and which groups are frozen.
    ///
    /// # Errors
    /// When `lr` is negative or not a number.
    pub fn schedule(&mut self, lr: f64, epochs: f64) -> Result<()> {
        not_negative("lr", lr)?;
        for group in &mut self.groups {
            let lr = group.settings.lr.rate(lr, self.base_lr);
            group.frozen = epochs < group.settings.frozen_epochs;
            let _ = group.lr.fill_(lr);
            let _ = group.decay.fill_(1.0 - lr * group.weight_decay(&self.config));
        }
        Ok(())
    }

    /// The second half of [`Optimizer::step`], on tensors alone, which a CUDA graph can capture.
    /// The graph is valid as long as the same groups are frozen.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn apply(&mut self) -> Result<()> {
        let active = |group: &&Group| !group.frozen;
        no_grad(|| {
            self.groups.iter().filter(active).try_for_each(|group| group.apply(&self.config))
        })
    }

    /// The number of groups that are frozen, as of the last [`Optimizer::schedule`].
    pub fn frozen(&self) -> usize {
        self.groups.iter().filter(|group| group.frozen).count()
    }

    /// Drops all gradients, as `torch.optim.Optimizer.zero_grad` does. The backward pass makes new
    /// ones; a parameter that the loss does not reach has none.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn zero_grad(&mut self) -> Result<()> {
        let params: Vec<Tensor> = self.params().map(Tensor::shallow_clone).collect();
        Ok(foreach::clear_grad(&params)?)
    }

    /// Sets all gradients to zero and keeps their memory, so that a
    /// [`Reducer`](portolan_tensor::distributed::Reducer) need not copy new ones. A parameter that
    /// the loss no longer reaches then has a gradient of zeros instead of none.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn zero_grad_in_place(&mut self) -> Result<()> {
        let gradients: Vec<Tensor> =
            self.params().map(Tensor::grad).filter(Tensor::defined).collect();
        Ok(foreach::zero(&gradients)?)
    }

    /// The parameters of all groups, in order, as [`clip_grad_norm`](crate::clip_grad_norm) takes
    /// them.
    pub fn params(&self) -> impl Iterator<Item = &Tensor> {
        self.groups.iter().flat_map(|group| group.settings.params.iter().map(|(_, param)| param))
    }

    /// Every buffer (a shallow clone) as `PARAMETER.BUFFER`. The names stay the same throughout
    /// training. Copying saved values into them restores the optimizer, together with the
    /// parameters, the config and the step, which the caller saves.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = Vec::new();
        for group in &self.groups {
            for (i, (param, _)) in group.settings.params.iter().enumerate() {
                for (name, buffers) in group.buffers.named() {
                    state.push((format!("{param}.{name}"), buffers[i].shallow_clone()));
                }
            }
        }
        state
    }

    /// Changes the weight decay of the groups that have it. DINO's rises along a cosine.
    ///
    /// # Errors
    /// When it is negative or not a number.
    pub fn set_weight_decay(&mut self, weight_decay: f64) -> Result<()> {
        not_negative("weight_decay", weight_decay)?;
        self.config.set_weight_decay(weight_decay);
        Ok(())
    }
}

impl Group {
    fn new(config: &OptimizerConfig, settings: ParamGroup) -> Self {
        let device = settings.params.first().map_or(Device::Cpu, |(_, param)| param.device());
        Group {
            buffers: Buffers::new(config, &settings.params),
            frozen: false,
            lr: scalar(0.0, device),
            decay: scalar(1.0, device),
            settings,
        }
    }

    fn weight_decay(&self, config: &OptimizerConfig) -> f64 {
        if self.settings.weight_decay { config.weight_decay() } else { 0.0 }
    }

    fn apply(&self, config: &OptimizerConfig) -> Result<()> {
        let params = self.settings.params.iter().map(|(_, param)| param);
        let (indices, gradients): (Vec<usize>, Vec<Tensor>) =
            params.map(Tensor::grad).enumerate().filter(|(_, gradient)| gradient.defined()).unzip();
        if indices.is_empty() {
            return Ok(());
        }
        // The buffers of the parameters that have a gradient.
        let select = |all: &[Tensor]| -> Vec<Tensor> {
            indices.iter().map(|&i| all[i].shallow_clone()).collect()
        };
        let params: Vec<Tensor> =
            indices.iter().map(|&i| self.settings.params[i].1.shallow_clone()).collect();
        let weight_decay = self.weight_decay(config);
        match (config, &self.buffers) {
            (&OptimizerConfig::Sgd { momentum, nesterov, .. }, Buffers::Momentum(buffers)) => {
                let buffers = buffers.as_deref().map(select);
                let settings = Sgd { momentum, weight_decay, nesterov };
                foreach::sgd_step(&params, &gradients, buffers.as_deref(), &self.lr, settings)?;
            }
            (
                &OptimizerConfig::Lars { momentum, trust_coefficient, form, .. },
                Buffers::Momentum(buffers),
            ) => {
                let buffers = buffers.as_deref().map(select);
                let adapt = self.settings.lars_adaptation;
                let lars = Lars { momentum, weight_decay, trust_coefficient, form, adapt };
                lars::step(&params, &gradients, buffers.as_deref(), &self.lr, lars)?;
            }
            (
                &OptimizerConfig::Adamw { betas, eps, .. },
                Buffers::Moments(Moments { means, squares, steps }),
            ) => {
                let [means, squares, steps] = [means, squares, steps].map(|all| select(all));
                let moments = Moments { means, squares, steps };
                if weight_decay > 0.0 {
                    foreach::scale(&params, &self.decay)?;
                }
                let settings = Adamw { betas, eps };
                foreach::adamw_step(&params, &gradients, &moments, &self.lr, settings)?;
            }
            _ => unreachable!("buffers are made from the config, whose kind never changes"),
        }
        Ok(())
    }
}

fn validate_params(groups: &[ParamGroup]) -> Result<()> {
    let mut names = HashSet::new();
    let mut storages = HashSet::new();
    for group in groups {
        for (name, param) in &group.params {
            let problem = if !names.insert(name) {
                "is there twice"
            } else if !storages.insert(param.data_ptr()) {
                "is the same tensor as another one"
            } else if !param.requires_grad() {
                "requires no gradient: leave it out, or set requires_grad"
            } else {
                continue;
            };
            let message = format!("the parameter `{name}` (group `{}`) {problem}", group.name);
            return Err(Error::Parameters(message));
        }
    }
    if names.is_empty() {
        return Err(Error::Parameters("the optimizer was given no parameters".to_owned()));
    }
    Ok(())
}
