//! Where tensors live, and in which precision a network runs.

use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind, Tensor};

use crate::native::{full_float32, pinned, upload_pinned, use_gpu};
use crate::{Error, Result};

/// The device of this name: `auto` (the first GPU if there is one, else the CPU), `cpu`, `cuda` or
/// `cuda:1`.
///
/// A GPU becomes the current device of this thread, and TF32 is turned off: PyTorch uses it for
/// float32 convolutions by default.
///
/// # Errors
/// When the name is none of these, or names an absent GPU. The message says what to do.
pub fn choose(name: &str) -> Result<Device> {
    match name {
        "auto" if Cuda::is_available() => cuda(0),
        "auto" | "cpu" => Ok(Device::Cpu),
        "cuda" => cuda(0),
        _ => match name.strip_prefix("cuda:") {
            Some(index) => cuda(index.parse().map_err(|error| {
                Error::Device(format!(
                    "the device `{name}` has no number after the colon; write cuda:0: {error}"
                ))
            })?),
            None => Err(Error::Device(format!(
                "unknown device `{name}`; choose auto, cpu, cuda or cuda:N"
            ))),
        },
    }
}

fn cuda(index: usize) -> Result<Device> {
    if !Cuda::is_available() {
        return Err(Error::Device(
            "cuda was asked for, but libtorch sees no GPU: check `nvidia-smi`, and that \
             `cargo xtask setup --cuda` provisioned the CUDA libraries; or use --device cpu"
                .to_owned(),
        ));
    }
    let count = Cuda::device_count();
    if index as i64 >= count {
        return Err(Error::Device(format!(
            "cuda:{index} was asked for, but there are {count} GPUs, counted from cuda:0"
        )));
    }
    let device = Device::Cuda(index);
    use_gpu(device)?;
    full_float32()?;
    Ok(device)
}

/// A device's name, as [`choose`] takes it.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// Waits until `device` has finished all queued work. Only measurements need this.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// Copies a CPU tensor to `device`. The copy to a GPU goes through page-locked memory and runs
/// beside the GPU's other work, so that neither side waits for it.
///
/// # Panics
/// If the device is absent or out of memory, as tch's operations do.
pub fn upload(tensor: &Tensor, device: Device) -> Tensor {
    if !device.is_cuda() {
        return tensor.shallow_clone();
    }
    upload_pinned(&pin_memory(tensor, device), device).expect("room on the device")
}

/// A number as a scalar tensor on `device`, for a value that changes from step to step. It is
/// float32 on a GPU, where kernels read it, and float64 on the CPU, where it keeps its digits.
pub fn scalar(value: f64, device: Device) -> Tensor {
    let kind = if device.is_cuda() { Kind::Float } else { Kind::Double };
    Tensor::full([] as [i64; 0], value, (kind, device))
}

/// A copy of a CPU tensor in page-locked memory, which a GPU reads without the CPU's help. If
/// `device` is the CPU, the tensor itself.
///
/// # Panics
/// If memory is exhausted, as tch's operations do.
pub fn pin_memory(tensor: &Tensor, device: Device) -> Tensor {
    if device.is_cuda() {
        return pinned(tensor).expect("page-locked memory");
    }
    tensor.shallow_clone()
}

/// The same `[n, channels, height, width]` with the channels last in memory, where convolutions
/// and batch norms are faster. Their results have the same layout.
pub fn channels_last(tensor: &Tensor) -> Tensor {
    tensor.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// The arithmetic of forward and backward passes. Weights, losses, optimizer and momentum encoder
/// are float32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Everything in float32, also convolutions on a GPU ([`choose`] turns TF32 off).
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

/// Seeds libtorch's own generators, of the CPU and of every GPU. They draw the initial weights.
/// Everything else random comes from named streams (`portolan-random`).
pub fn seed(seed: u64) {
    tch::manual_seed(seed as i64);
}

/// The tensor in float32, or unchanged if it is float64: the precision of sums and losses.
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
