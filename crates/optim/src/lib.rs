//! The optimizers of self-supervised learning (SGD, LARS in its four forms, AdamW) over parameter
//! groups, and the schedules of the papers, for use in any training loop:
//!
//! ```
//! use portolan_optim::{Optimizer, OptimizerConfig, ParamGroup, Schedule};
//! use portolan_tensor::{Device, Kind, Tensor};
//!
//! let weight = Tensor::ones([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
//! let params = vec![("weight".to_owned(), weight.shallow_clone())];
//! let groups = vec![ParamGroup::all("model", params)];
//! let config = OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 0.0, nesterov: false };
//! let mut optimizer = Optimizer::new(config, 0.1, groups)?;
//! let schedule = Schedule::default(); // a cosine down to zero
//! for step in 0..100u32 {
//!     let loss = weight.square().sum(Kind::Float);
//!     optimizer.zero_grad()?;
//!     loss.backward();
//!     optimizer.step(schedule.at(0.1, step.into(), 10, 10), f64::from(step) / 10.0)?;
//! }
//! assert!(weight.abs().max().double_value(&[]) < 0.1);
//! # anyhow::Ok(())
//! ```
//!
//! tch has optimizers of its own, bound to its `VarStore`. These exist because tch lacks LARS,
//! because a checkpoint must hold the optimizer's state by name, and because papers differ in which
//! parameters have weight decay, are adapted, follow the schedule or are frozen. A method states
//! all of that as data ([`ParamGroup`]), so that no optimizer knows a method.
//!
//! Values are tested against PyTorch's, lightly's and Barlow Twins' authors' to 1e-6 over several
//! steps (`tests/golden.rs`), SimCLR's and solo-learn's LARS against steps worked out by hand
//! (`tests/lars.rs`).

mod clip;
mod config;
mod error;
mod group;
mod lars;
mod optimizer;
pub mod schedule;

pub use clip::{clip_each_grad, clip_grad_norm, grad_norm};
pub use config::{LarsForm, LrScaling, OptimizerConfig};
pub use error::{Error, Result};
pub use group::{Decay, LrRule, ParamGroup};
pub use optimizer::Optimizer;
pub use schedule::Schedule;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
