//! Losses of self-supervised learning as pure functions of tensors, one per file.
//!
//! ```
//! use portolan_losses::nt_xent;
//! use portolan_tensor::{Device, Kind, Tensor};
//!
//! // The projections of two views of eight images, 16 numbers each.
//! let z_a = Tensor::randn([8, 16], (Kind::Float, Device::Cpu)).set_requires_grad(true);
//! let z_b = Tensor::randn([8, 16], (Kind::Float, Device::Cpu)).set_requires_grad(true);
//! let loss = nt_xent(&z_a, &z_b, 0.5)?; // a scalar
//! loss.backward();
//! assert_eq!(z_a.grad().size(), [8, 16]);
//! # anyhow::Ok(())
//! ```
//!
//! Conventions:
//!
//! - Losses are functions, not modules with state. State such as a queue or a center belongs to the
//!   method and is passed in, so that a loss can be read beside its equation and tested alone.
//! - A loss is a scalar, averaged over the batch as in its paper. The papers' learning rates and
//!   weights assume these scales.
//! - Inputs are the network's outputs as they are. Where a paper compares directions, the rows are
//!   normalized to length one here. Normalizing them beforehand changes nothing.
//! - Inputs through which a paper lets no gradient flow are detached here, so that a training loop
//!   cannot forget it.
//! - Losses compute in float32 with autocast off, also inside a bfloat16 region and on bfloat16
//!   inputs (float64 stays float64). Softmaxes over small temperatures and sums over a batch lose
//!   too much precision in half precision.
//! - A wrong shape, or a batch too small for the loss to be defined, is an error that names the
//!   inputs.
//!
//! Values and gradients are tested against PyTorch's and lightly's to 1e-5 (`tests/golden.rs`).

pub mod alignment;
pub mod barlow_twins;
pub mod byol;
pub mod dino;
pub mod dinov2;
pub mod distillation;
pub mod effective_rank;
mod error;
pub mod ibot;
pub mod info_nce;
pub mod koleo;
pub mod mae;
pub mod moco_v3;
pub mod negative_cosine;
pub mod nt_xent;
mod ops;
pub mod sinkhorn_knopp;
pub mod uniformity;
mod validate;
pub mod vicreg;

pub use alignment::alignment;
pub use barlow_twins::barlow_twins;
pub use byol::byol;
pub use dino::dino;
pub use effective_rank::effective_rank;
pub use error::{Error, Result};
pub use ibot::ibot;
pub use info_nce::info_nce_queue;
pub use koleo::koleo;
pub use mae::mae;
pub use moco_v3::moco_v3;
pub use negative_cosine::negative_cosine;
pub use nt_xent::nt_xent;
pub use ops::l2_normalize;
pub use sinkhorn_knopp::sinkhorn_knopp;
pub use uniformity::uniformity;
pub use vicreg::vicreg;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
