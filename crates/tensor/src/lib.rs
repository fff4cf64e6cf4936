//! libtorch for Portolan: [tch], re-exported at one version for the whole workspace, and what tch
//! lacks.
//!
//! ```
//! use portolan_tensor::{Kind, Tensor, device, full_precision, io};
//!
//! let device = device::choose("cpu")?;
//! let x = Tensor::ones([8, 128], (Kind::Float, device));
//! let product = full_precision(device, || x.matmul(&x.tr()))?;
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("product.safetensors");
//! io::save(&path, &[("product".to_owned(), product)], &Default::default())?;
//! # anyhow::Ok(())
//! ```
//!
//! tch covers nearly all of libtorch's operations. The rest is a few C++ files rather than a
//! binding of our own: operations on lists of tensors, fused batch norm, activation checkpointing,
//! asynchronous uploads, CUDA graphs, bfloat16 autocast, deterministic algorithms, generator states
//! and process groups. They are the only C++ of the project, and this crate has its only `unsafe`.
//! The CUDA part is compiled where libtorch's CUDA library is present.

pub mod device;
pub mod distributed;
mod error;
pub mod foreach;
pub mod fused;
mod grad;
mod graph;
pub mod io;
mod memory;
mod native;
mod recompute;
mod vars;

pub use device::{Precision, at_least_f32, channels_last, pin_memory, scalar, seed, upload};
pub use error::{Error, Result};
pub use grad::no_grad;
pub use graph::{Graph, leave_default_stream};
pub use memory::{keep_freed_memory, release_freed_memory};
pub use native::{
    autocast_bf16, free_memory, from_fill, full_precision, generator_state, peak_memory,
    set_generator_state, use_deterministic_algorithms, use_gpu, warn_on_synchronization,
};
pub use recompute::recomputed;
pub use tch::{self, Device, IndexOp, Kind, Reduction, Tensor};
pub use vars::{Var, Vars, prefixed};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
