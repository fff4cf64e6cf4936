//! Configures libtorch for a run.

use anyhow::{Result, ensure};
use portolan_tensor::{Device, device, tch};

/// The device and the threads of a run.
pub(crate) struct Setup {
    pub(crate) device: Device,
    pub(crate) threads: usize,
}

/// Configures the threads of libtorch and its algorithms: deterministic ones on a CPU, and on a GPU
/// the fastest that cuDNN finds.
///
/// # Errors
/// If the device does not exist, or `threads` is 0.
pub(crate) fn set_up(device: &str, threads: Option<usize>) -> Result<Setup> {
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = threads.unwrap_or_else(cores);
    ensure!(threads >= 1, "--threads is 0; at least one is needed");
    let device = device::choose(device)?;
    tch::set_num_threads(threads as i32);
    portolan_tensor::use_deterministic_algorithms(!device.is_cuda());
    tch::Cuda::cudnn_set_benchmark(device.is_cuda());
    Ok(Setup { device, threads })
}
