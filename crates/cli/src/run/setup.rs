//! libtorch's settings for a run.

use anyhow::{Result, ensure};
use portolan_tensor::{Device, device, tch};

/// Where a run works.
pub(crate) struct Setup {
    pub(crate) device: Device,
    pub(crate) threads: usize,
}

/// Prepares libtorch for a run: its threads, and algorithms that repeat themselves on the CPU and are the fastest of
/// those that cuDNN has tried on a GPU.
///
/// # Errors
/// When the device is absent, or there are to be no threads.
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
