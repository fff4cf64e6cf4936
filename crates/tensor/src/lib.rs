//! libtorch for Portolan: [tch], re-exported at the one version that everything is built against, and
//! what tch lacks.
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
//! tch covers nearly all of libtorch's operations, so the rest (one operation on all tensors of a list, recomputed
//! parts of a network, uploads that nothing waits for, CUDA graphs, bfloat16 autocast, deterministic algorithms, the generators'
//! states, process groups) is three small C++ files rather than a binding of our own. They are the only C++ of the project, and this crate has
//! its only `unsafe`. Its CUDA part is compiled where libtorch's CUDA library is present.

pub mod device;
pub mod distributed;
pub mod foreach;
pub mod fused;
mod grad;
mod graph;
pub mod io;
mod memory;
mod native;
mod recompute;
mod vars;

pub use device::{Precision, at_least_f32, channels_last, number, page_locked, seed, upload};
pub use grad::no_grad;
pub use graph::{Graph, leave_default_stream};
pub use memory::{keep_freed_memory, release_freed_memory};
pub use native::{
    autocast_bf16, deterministic, free_memory, from_fill, full_precision, generator_state,
    peak_memory, report_waits, set_generator_state, use_gpu,
};
pub use recompute::recomputed;
pub use tch::{self, Device, IndexOp, Kind, Reduction, Tensor};
pub use vars::{Var, Vars, prefixed};
