//! The optimiser: parameter groups, their buffers, and the step.

use crate::config::{OptimizerConfig, not_negative};
use crate::group::ParamGroup;
use crate::rules::{self, Moments};
use anyhow::{Result, ensure};
use portolan_tensor::{Tensor, no_grad};
use std::collections::HashSet;

/// Moves the parameters of its groups against their gradients.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    base_lr: f64,
    groups: Vec<Group>,
}

/// A parameter group and the buffers of its parameters, in the same order.
#[derive(Debug)]
struct Group {
    settings: ParamGroup,
    buffers: Vec<Buffers>,
}

/// What the rule of an optimiser remembers of one parameter.
#[derive(Debug)]
enum Buffers {
    /// SGD and LARS; nothing where the momentum is 0.
    Momentum(Option<Tensor>),
    /// AdamW.
    Moments(Moments),
}

impl Buffers {
    fn new(config: &OptimizerConfig, param: &Tensor) -> Self {
        match *config {
            OptimizerConfig::Sgd { momentum, .. } | OptimizerConfig::Lars { momentum, .. } => {
                let zeros = || param.zeros_like().set_requires_grad(false);
                Buffers::Momentum((momentum > 0.0).then(zeros))
            }
            OptimizerConfig::Adamw { .. } => Buffers::Moments(Moments::of(param)),
        }
    }

    fn named(&self) -> Vec<(&'static str, &Tensor)> {
        match self {
            Buffers::Momentum(buffer) => buffer.iter().map(|buffer| ("momentum", buffer)).collect(),
            Buffers::Moments(Moments { mean, square, steps }) => {
                vec![("mean", mean), ("square", square), ("steps", steps)]
            }
        }
    }
}

impl Optimizer {
    /// An optimiser over `groups`, its buffers at zero beside their parameters. `base_lr` is the rate that
    /// the schedule starts from: what groups of [`LrRule::Base`](crate::LrRule) keep.
    ///
    /// # Errors
    /// When a setting is out of range, there is nothing to move, a name or a tensor appears twice, or a
    /// tensor does not require gradients.
    pub fn new(config: OptimizerConfig, base_lr: f64, groups: Vec<ParamGroup>) -> Result<Self> {
        config.check()?;
        not_negative("base_lr", base_lr)?;
        check_params(&groups)?;
        let groups = groups
            .into_iter()
            .map(|settings| {
                let buffer = |(_, param): &(String, Tensor)| Buffers::new(&config, param);
                Group { buffers: settings.params.iter().map(buffer).collect(), settings }
            })
            .collect();
        Ok(Optimizer { config, base_lr, groups })
    }

    /// Moves every parameter that has a gradient, in place. `lr` is the scheduled rate; `epoch`, counted
    /// from 0, tells which groups are still frozen. A parameter without gradient, or in a frozen group, is
    /// left alone with its buffers: it does not decay either.
    ///
    /// # Errors
    /// When `lr` is negative or not a number; nothing has moved then.
    pub fn step(&mut self, lr: f64, epoch: u64) -> Result<()> {
        not_negative("lr", lr)?;
        no_grad(|| {
            for group in &mut self.groups {
                if epoch >= group.settings.frozen_epochs {
                    group.step(&self.config, group.settings.lr.rate(lr, self.base_lr));
                }
            }
        });
        Ok(())
    }

    /// Sets all gradients to zero. Their memory is kept: a parameter that the loss no longer reaches has,
    /// from then on, a gradient of zeros and not none.
    pub fn zero_grad(&mut self) {
        for group in &mut self.groups {
            group.settings.params.iter_mut().for_each(|(_, param)| param.zero_grad());
        }
    }

    /// The parameters of all groups, in order: what [`clip_grad_norm`](crate::clip_grad_norm) takes.
    pub fn params(&self) -> impl Iterator<Item = &Tensor> {
        self.groups.iter().flat_map(|group| group.settings.params.iter().map(|(_, param)| param))
    }

    /// Every buffer (shallow clones) as `PARAMETER.BUFFER`, the same names from the start to the end of
    /// training. Copying saved values into them continues the saved optimiser: its parameters, its
    /// config and the step are the caller's to restore.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = Vec::new();
        for group in &self.groups {
            for ((param, _), buffers) in group.settings.params.iter().zip(&group.buffers) {
                for (name, buffer) in buffers.named() {
                    state.push((format!("{param}.{name}"), buffer.shallow_clone()));
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
    fn step(&mut self, config: &OptimizerConfig, lr: f64) {
        let weight_decay = if self.settings.weight_decay { config.weight_decay() } else { 0.0 };
        for ((_, param), buffers) in self.settings.params.iter_mut().zip(&mut self.buffers) {
            let gradient = param.grad();
            if !gradient.defined() {
                continue;
            }
            match (config, buffers) {
                (&OptimizerConfig::Sgd { momentum, nesterov, .. }, Buffers::Momentum(buffer)) => {
                    let direction = rules::decayed(param, &gradient, weight_decay);
                    let buffer = buffer.as_mut();
                    rules::momentum_step(param, &direction, buffer, lr, momentum, nesterov);
                }
                (
                    &OptimizerConfig::Lars { momentum, trust_coefficient, form, .. },
                    Buffers::Momentum(buffer),
                ) => {
                    let direction = if self.settings.lars_adaptation {
                        rules::lars_direction(
                            param,
                            &gradient,
                            weight_decay,
                            trust_coefficient,
                            form,
                        )
                    } else {
                        rules::decayed(param, &gradient, weight_decay)
                    };
                    rules::momentum_step(param, &direction, buffer.as_mut(), lr, momentum, false);
                }
                (&OptimizerConfig::Adamw { betas, eps, .. }, Buffers::Moments(moments)) => {
                    rules::adamw_step(param, &gradient, moments, lr, betas, eps, weight_decay);
                }
                _ => unreachable!("buffers are made from the config, whose kind never changes"),
            }
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
    ensure!(!names.is_empty(), "the optimiser was given no parameters");
    Ok(())
}
