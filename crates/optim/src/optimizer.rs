//! The optimizer: parameter groups, their buffers, and the step, which treats all parameters of a group at once.

use crate::config::{OptimizerConfig, not_negative};
use crate::group::ParamGroup;
use crate::lars::{self, Lars};
use anyhow::{Result, ensure};
use portolan_tensor::foreach::{self, Adamw, Moments, Sgd};
use portolan_tensor::{Device, Kind, Tensor, no_grad, number};
use std::collections::HashSet;

/// Moves the parameters of its groups against their gradients.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    base_lr: f64,
    groups: Vec<Group>,
}

/// A parameter group and what the rule of the optimizer remembers of its parameters, in the same order.
#[derive(Debug)]
struct Group {
    settings: ParamGroup,
    buffers: Buffers,
    /// Whether the group keeps still for now.
    frozen: bool,
    /// The learning rate, a number beside the parameters.
    lr: Tensor,
    /// AdamW: what a step leaves of a parameter before it moves it, 1 − lr·λ, likewise.
    kept: Tensor,
}

#[derive(Debug)]
enum Buffers {
    /// SGD and LARS; none where the momentum is 0.
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
    /// An optimizer over `groups`, its buffers at zero beside their parameters. `base_lr` is the rate that
    /// the schedule starts from: what groups of [`LrRule::Base`](crate::LrRule) keep.
    ///
    /// # Errors
    /// When a setting is out of range, there is nothing to move, a name or a tensor appears twice, or a
    /// tensor does not require gradients.
    pub fn new(config: OptimizerConfig, base_lr: f64, groups: Vec<ParamGroup>) -> Result<Self> {
        config.validate()?;
        not_negative("base_lr", base_lr)?;
        check_params(&groups)?;
        let groups = groups.into_iter().map(|settings| Group::new(&config, settings)).collect();
        Ok(Optimizer { config, base_lr, groups })
    }

    /// Moves every parameter that has a gradient, in place. `lr` is the scheduled rate; `epoch`, counted
    /// from 0, tells which groups are still frozen. A parameter without gradient, or in a frozen group, is
    /// left alone with its buffers: it does not decay either.
    ///
    /// # Errors
    /// When `lr` is negative or not a number, where nothing has moved, or libtorch refuses.
    pub fn step(&mut self, lr: f64, epoch: u64) -> Result<()> {
        self.schedule(lr, epoch)?;
        self.apply()
    }

    /// The part of [`Optimizer::step`] that goes by numbers: sets the rates that [`Optimizer::apply`] takes from tensors,
    /// and which groups it leaves alone.
    ///
    /// # Errors
    /// When `lr` is negative or not a number.
    pub fn schedule(&mut self, lr: f64, epoch: u64) -> Result<()> {
        not_negative("lr", lr)?;
        for group in &mut self.groups {
            let lr = group.settings.lr.rate(lr, self.base_lr);
            group.frozen = epoch < group.settings.frozen_epochs;
            let _ = group.lr.fill_(lr);
            let _ = group.kept.fill_(1.0 - lr * group.weight_decay(&self.config));
        }
        Ok(())
    }

    /// The part of [`Optimizer::step`] that works on tensors alone, and can be captured in a graph. The graph holds for
    /// as long as the same groups are frozen.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn apply(&mut self) -> Result<()> {
        let active = |group: &&Group| !group.frozen;
        no_grad(|| {
            self.groups.iter().filter(active).try_for_each(|group| group.apply(&self.config))
        })
    }

    /// How many groups are frozen, by the last [`Optimizer::schedule`].
    pub fn frozen(&self) -> usize {
        self.groups.iter().filter(|group| group.frozen).count()
    }

    /// Lets go of all gradients, as `torch.optim.Optimizer.zero_grad` does: the backward pass makes new ones, where it
    /// would otherwise add to zeros. A parameter that the loss does not reach has none.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn zero_grad(&mut self) -> Result<()> {
        foreach::clear_grad(&self.params().map(Tensor::shallow_clone).collect::<Vec<_>>())
    }

    /// Sets all gradients to zero and keeps their memory, which a reducer
    /// ([`portolan_tensor::distributed::Reducer`]) would otherwise copy them to. A parameter that the loss no longer
    /// reaches has, from then on, a gradient of zeros and not none.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn zero_grad_in_place(&mut self) -> Result<()> {
        let gradients: Vec<Tensor> =
            self.params().map(Tensor::grad).filter(Tensor::defined).collect();
        foreach::zero(&gradients)
    }

    /// The parameters of all groups, in order: what [`clip_grad_norm`](crate::clip_grad_norm) takes.
    pub fn params(&self) -> impl Iterator<Item = &Tensor> {
        self.groups.iter().flat_map(|group| group.settings.params.iter().map(|(_, param)| param))
    }

    /// Every buffer (shallow clones) as `PARAMETER.BUFFER`, the same names from the start to the end of
    /// training. Copying saved values into them continues the saved optimizer: its parameters, its
    /// config and the step are the caller's to restore.
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

    /// Changes the weight decay of the groups that decay: DINO's rises along a cosine.
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
            lr: number(0.0, device),
            kept: number(1.0, device),
            settings,
        }
    }

    fn weight_decay(&self, config: &OptimizerConfig) -> f64 {
        if self.settings.weight_decay { config.weight_decay() } else { 0.0 }
    }

    fn apply(&self, config: &OptimizerConfig) -> Result<()> {
        let params = self.settings.params.iter().map(|(_, param)| param);
        let (moving, gradients): (Vec<usize>, Vec<Tensor>) =
            params.map(Tensor::grad).enumerate().filter(|(_, gradient)| gradient.defined()).unzip();
        if moving.is_empty() {
            return Ok(());
        }
        let of_moving = |all: &[Tensor]| -> Vec<Tensor> {
            moving.iter().map(|&i| all[i].shallow_clone()).collect()
        };
        let params: Vec<Tensor> =
            moving.iter().map(|&i| self.settings.params[i].1.shallow_clone()).collect();
        let weight_decay = self.weight_decay(config);
        match (config, &self.buffers) {
            (&OptimizerConfig::Sgd { momentum, nesterov, .. }, Buffers::Momentum(buffers)) => {
                let buffers = buffers.as_deref().map(of_moving);
                let settings = Sgd { momentum, weight_decay, nesterov };
                foreach::sgd_step(&params, &gradients, buffers.as_deref(), &self.lr, settings)
            }
            (
                &OptimizerConfig::Lars { momentum, trust_coefficient, form, .. },
                Buffers::Momentum(buffers),
            ) => {
                let buffers = buffers.as_deref().map(of_moving);
                let adapt = self.settings.lars_adaptation;
                let lars = Lars { momentum, weight_decay, trust_coefficient, form, adapt };
                lars::step(&params, &gradients, buffers.as_deref(), &self.lr, lars)
            }
            (
                &OptimizerConfig::Adamw { betas, eps, .. },
                Buffers::Moments(Moments { means, squares, steps }),
            ) => {
                let [means, squares, steps] = [means, squares, steps].map(|all| of_moving(all));
                let moments = Moments { means, squares, steps };
                if weight_decay > 0.0 {
                    foreach::scale(&params, &self.kept)?;
                }
                let settings = Adamw { betas, eps };
                foreach::adamw_step(&params, &gradients, &moments, &self.lr, settings)
            }
            _ => unreachable!("buffers are made from the config, whose kind never changes"),
        }
    }
}

fn check_params(groups: &[ParamGroup]) -> Result<()> {
    let mut names = HashSet::new();
    let mut storages = HashSet::new();
    for group in groups {
        for (name, param) in &group.params {
            let group = &group.name;
            ensure!(names.insert(name), "the parameter `{name}` (group `{group}`) is there twice");
            ensure!(
                storages.insert(param.data_ptr()),
                "the parameter `{name}` (group `{group}`) is the same tensor as another one"
            );
            ensure!(
                param.requires_grad(),
                "the parameter `{name}` (group `{group}`) requires no gradient: leave it out, or set \
                 requires_grad"
            );
        }
    }
    ensure!(!names.is_empty(), "the optimizer was given no parameters");
    Ok(())
}
