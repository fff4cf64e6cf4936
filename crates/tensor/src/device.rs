//! Where tensors live, and in which precision a network runs.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind, Tensor};

use crate::native::{full_float32, pinned, upload_pinned, use_gpu};

/// The device of this name: `auto` (the first GPU when there is one, else the CPU), `cpu`, `cuda`
/// or `cuda:1`. A GPU becomes the current one of this thread, and computes float32 in float32: TF32, which PyTorch uses
/// for convolutions unless it is told otherwise, is off.
///
/// # Errors
/// When the name is none of these, or names a GPU that is not there; the message says what to do.
pub fn choose(name: &str) -> Result<Device> {
    match name {
        "auto" if Cuda::is_available() => cuda(0),
        "auto" => Ok(Device::Cpu),
        "cpu" => Ok(Device::Cpu),
        "cuda" => cuda(0),
        _ => match name.strip_prefix("cuda:") {
            Some(index) => cuda(index.parse().with_context(|| {
                format!("the device `{name}` has no number after the colon; write cuda:0")
            })?),
            None => bail!("unknown device `{name}`; choose auto, cpu, cuda or cuda:N"),
        },
    }
}

fn cuda(index: usize) -> Result<Device> {
    ensure!(
        Cuda::is_available(),
        "cuda was asked for, but libtorch sees no GPU: check `nvidia-smi`, and that \
         `cargo xtask setup --cuda` provisioned the CUDA libraries; or use --device cpu"
    );
    let count = Cuda::device_count();
    ensure!(
        (index as i64) < count,
        "cuda:{index} was asked for, but there are {count} GPUs, counted from cuda:0"
    );
    let device = Device::Cuda(index);
    use_gpu(device)?;
    full_float32()?;
    Ok(device)
}

/// A device's name as the user writes it.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// Waits until `device` has done all it was given to do: for measuring alone.
pub fn wait(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// A CPU tensor on `device`. To a GPU it goes by way of page-locked memory and beside the GPU's other work, so that
/// neither side waits for the copy.
///
/// # Panics
/// If the device is absent or its memory exhausted, as tch's operations do.
pub fn upload(tensor: &Tensor, device: Device) -> Tensor {
    if !device.is_cuda() {
        return tensor.shallow_clone();
    }
    upload_pinned(&page_locked(tensor, device), device).expect("room on the device")
}

/// A number as a scalar tensor on `device`, for work that goes by a number that changes: float32 on a GPU, whose kernels
/// read it from there, and float64 on the CPU, where it is read as it is.
pub fn number(value: f64, device: Device) -> Tensor {
    let kind = if device.is_cuda() { Kind::Float } else { Kind::Double };
    Tensor::full([] as [i64; 0], value, (kind, device))
}

/// A copy of a CPU tensor in memory from which `device` reads without the CPU's help; on the CPU, the tensor itself.
///
/// # Panics
/// If the memory is exhausted, as tch's operations do.
pub fn page_locked(tensor: &Tensor, device: Device) -> Tensor {
    if device.is_cuda() {
        return pinned(tensor).expect("page-locked memory");
    }
    tensor.shallow_clone()
}

/// `[n, channels, height, width]` as it is, laid out in memory with the channels last: convolutions and batch norms are
/// faster on it, and hand out what is laid out the same way.
pub fn channels_last(tensor: &Tensor) -> Tensor {
    tensor.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// The arithmetic of forward and backward passes. Weights, losses, optimizer and momentum encoder are
/// float32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Everything in float32, convolutions on a GPU too ([`choose`] turns TF32 off).
    #[default]
    Fp32,
    /// bfloat16 autocast around the networks.
    Bf16,
}

impl Precision {
    /// Runs `body`, a network's pass on `device`, in this precision.
    ///
    /// # Errors
    /// When libtorch refuses autocast on this device.
    pub fn run<T>(self, device: Device, body: impl FnOnce() -> T) -> Result<T> {
        match self {
            Precision::Fp32 => Ok(body()),
            Precision::Bf16 => crate::autocast_bf16(device, body),
        }
    }
}

/// Seeds libtorch's own generators, of the CPU and of every GPU. They draw the initial weights;
/// everything else random comes from named streams (`portolan-random`).
pub fn seed(seed: u64) {
    tch::manual_seed(seed as i64);
}

/// The same numbers in float32, or in float64 where they are that: what sums and losses are computed in.
pub fn at_least_f32(x: &Tensor) -> Tensor {
    match x.kind() {
        Kind::Double => x.shallow_clone(),
        _ => x.to_kind(Kind::Float),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn devices_are_chosen_by_name() {
        assert_eq!(choose("cpu").unwrap(), Device::Cpu);
        assert!(choose("auto").is_ok());
        for wrong in ["gpu", "cuda:x", "cuda:99"] {
            let error = choose(wrong).unwrap_err().to_string();
            assert!(error.contains("cuda"), "{error}");
        }
    }
}
