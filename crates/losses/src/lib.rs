//! The objectives of self-supervised learning, as pure functions of tensors: one objective a file.
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
//! What holds for all of them:
//!
//! - A function, not a module with state: what a loss remembers (a queue, a center) belongs to the
//!   method and is passed in, so that a loss can be read beside its equation and tested alone.
//! - The loss is a scalar, averaged over the batch as its paper does. The learning rates and weights of
//!   the papers assume these very scales.
//! - Inputs are as the network gives them: where a paper compares directions, the rows are brought to
//!   length one here, and normalizing them beforehand changes nothing.
//! - An input through which a paper lets no gradient flow is detached here, so that forgetting it in a
//!   training loop is impossible.
//! - They compute in float32 with autocast off, also inside a bfloat16 region and on bfloat16 inputs
//!   (float64 stays float64): softmaxes over small temperatures and sums over a batch lose too much in
//!   half precision.
//! - A shape that makes no sense, or a batch too small for the loss to mean anything, is an error that
//!   names the inputs.
//!
//! Values and gradients are tested against PyTorch's and lightly's to 1e-5 (`tests/golden.rs`).

pub mod alignment;
pub mod barlow_twins;
pub mod byol;
mod check;
pub mod dino;
pub mod effective_rank;
pub mod info_nce;
pub mod koleo;
pub mod mae;
pub mod moco_v3;
pub mod negative_cosine;
pub mod nt_xent;
mod parts;
pub mod uniformity;
pub mod vicreg;

pub use alignment::alignment;
pub use barlow_twins::barlow_twins;
pub use byol::byol;
pub use dino::dino;
pub use effective_rank::effective_rank;
pub use info_nce::info_nce_queue;
pub use koleo::koleo;
pub use mae::mae;
pub use moco_v3::moco_v3;
pub use negative_cosine::negative_cosine;
pub use nt_xent::nt_xent;
pub use parts::l2_normalize;
pub use uniformity::uniformity;
pub use vicreg::vicreg;
