//! Safe functions over `cpp/portolan.cpp`, `cpp/cuda.cpp` and the memory of a tensor.
#![allow(unsafe_code)] // Calls into C++, and writes to a tensor's memory.

use std::ffi::{CStr, c_char};
use tch::kind::Element;
use tch::{Device, Tensor};
use torch_sys::C_tensor;

use crate::{Error, Result};

unsafe extern "C" {
    fn portolan_free(message: *const c_char);
    fn portolan_autocast_enabled(cuda: bool) -> bool;
    fn portolan_autocast_enter(cuda: bool, enabled: bool) -> *const c_char;
    fn portolan_autocast_leave(cuda: bool, previous: bool);
    fn portolan_set_deterministic(on: bool);
    fn portolan_use_gpu(cuda_index: i64) -> *const c_char;
    fn portolan_full_float32() -> *const c_char;
    fn portolan_page_locked(x: *const C_tensor, out: *mut *mut C_tensor) -> *const c_char;
    fn portolan_upload(
        pinned: *const C_tensor,
        cuda_index: i64,
        out: *mut *mut C_tensor,
    ) -> *const c_char;
    fn portolan_peak_memory(cuda_index: i64, bytes: *mut i64) -> *const c_char;
    fn portolan_free_memory(cuda_index: i64, bytes: *mut i64) -> *const c_char;
    fn portolan_report_waits(on: bool);
    fn portolan_generator_state(cuda_index: i64, out: *mut *mut C_tensor) -> *const c_char;
    fn portolan_set_generator_state(cuda_index: i64, state: *const C_tensor) -> *const c_char;
}

/// Turns the message that a C++ function returned into a result.
pub(crate) fn check(message: *const c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null message is a NUL-terminated string from `strdup`, ours to release once.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        portolan_free(message);
        text
    };
    // libtorch appends its own stack trace. The first line is the message.
    Err(Error::Libtorch(text.lines().next().unwrap_or_default().to_owned()))
}

/// The tensor that a C++ function returns through its last argument.
pub(crate) fn new_tensor(call: impl FnOnce(*mut *mut C_tensor) -> *const c_char) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    check(call(&mut out))?;
    // SAFETY: on success `out` is a new tensor, owned by the `Tensor` made of it.
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// Leaves an autocast region when dropped, also after a panic.
struct Region {
    cuda: bool,
    previous: bool,
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: sets thread-local settings of libtorch. A `Region` exists only after a matching
        // enter.
        unsafe { portolan_autocast_leave(self.cuda, self.previous) }
    }
}

fn in_region<T>(device: Device, enabled: bool, body: impl FnOnce() -> T) -> Result<T> {
    let cuda = device.is_cuda();
    // SAFETY: reads and sets thread-local settings of libtorch.
    let previous = unsafe { portolan_autocast_enabled(cuda) };
    check(unsafe { portolan_autocast_enter(cuda, enabled) })?;
    let _region = Region { cuda, previous };
    Ok(body())
}

/// Runs `body` with bfloat16 autocast on `device`: matrix products and convolutions in bfloat16,
/// sums and norms in float32.
///
/// Within the outermost region libtorch caches the bfloat16 copies of weights that require
/// gradients. A pass under `no_grad` over such weights therefore needs a region of its own: its
/// cached copies carry no gradient, and a later pass in the same region would train nothing. The
/// weights of an EMA network require no gradients and are not cached.
///
/// # Errors
/// When libtorch refuses autocast on this device.
pub fn autocast_bf16<T>(device: Device, body: impl FnOnce() -> T) -> Result<T> {
    in_region(device, true, body)
}

/// Runs `body` with autocast off on `device`, also inside an autocast region. Losses need it:
/// casting to float32 inside autocast does not keep matrix products in float32.
///
/// # Errors
/// When libtorch refuses autocast on this device.
pub fn full_precision<T>(device: Device, body: impl FnOnce() -> T) -> Result<T> {
    in_region(device, false, body)
}

/// Has libtorch use only algorithms that give the same bits each time. An operation without one
/// fails.
pub fn use_deterministic_algorithms(on: bool) {
    // SAFETY: sets two global flags of libtorch.
    unsafe { portolan_set_deterministic(on) }
}

/// Makes `device`, if it is a GPU, the current device of this thread, where CUDA and libtorch put
/// streams, graphs and page-locked memory. Every thread that works for a GPU must call it;
/// [`device::choose`](crate::device::choose) does it for the calling thread.
///
/// # Errors
/// When the device is absent.
pub fn use_gpu(device: Device) -> Result<()> {
    if !device.is_cuda() {
        return Ok(());
    }
    // SAFETY: sets a thread-local setting of CUDA.
    check(unsafe { portolan_use_gpu(cuda_index_of(device)) })
}

/// Turns TF32 off for convolutions, where PyTorch has it on by default.
///
/// # Errors
/// When libtorch refuses.
pub(crate) fn full_float32() -> Result<()> {
    // SAFETY: sets a global flag of libtorch.
    check(unsafe { portolan_full_float32() })
}

/// A copy of a CPU tensor in page-locked memory, or the tensor itself if it is there already. tch's
/// `pin_memory` passes a device, of which libtorch 2.11 warns.
pub(crate) fn pinned(tensor: &Tensor) -> Result<Tensor> {
    // SAFETY: `tensor` lives until the call returns.
    new_tensor(|out| unsafe { portolan_page_locked(tensor.as_ptr(), out) })
}

/// A copy on the GPU `device` of a CPU tensor in page-locked memory. Neither the CPU nor the GPU's
/// queued work waits for it; work queued from now on does.
pub(crate) fn upload_pinned(pinned: &Tensor, device: Device) -> Result<Tensor> {
    // SAFETY: `pinned` lives until the call returns, and libtorch does not reuse its memory before
    // the copy is over.
    new_tensor(|out| unsafe { portolan_upload(pinned.as_ptr(), cuda_index_of(device), out) })
}

/// The peak of this GPU's memory in bytes since the last call: the tensors', plus the memory that
/// graphs captured before then reserve. A graph captured since then is counted twice.
///
/// # Errors
/// When `device` is not a GPU, or absent.
pub fn peak_memory(device: Device) -> Result<u64> {
    let mut bytes = 0;
    // SAFETY: writes one number.
    check(unsafe { portolan_peak_memory(cuda_index_of(device), &mut bytes) })?;
    Ok(bytes as u64)
}

/// This GPU's free memory in bytes.
///
/// # Errors
/// When `device` is not a GPU, or absent.
pub fn free_memory(device: Device) -> Result<u64> {
    let mut bytes = 0;
    // SAFETY: writes one number.
    check(unsafe { portolan_free_memory(cuda_index_of(device), &mut bytes) })?;
    Ok(bytes as u64)
}

/// Has libtorch warn on standard error where the program waits for a GPU, which a training step
/// should never do. It is PyTorch's `torch.cuda.set_sync_debug_mode("warn")`.
pub fn warn_on_synchronization(on: bool) {
    // SAFETY: sets a global flag of libtorch.
    unsafe { portolan_report_waits(on) }
}

/// The index by which C++ knows a device; −1 is the CPU.
pub(crate) fn cuda_index_of(device: Device) -> i64 {
    match device {
        Device::Cuda(index) => index as i64,
        _ => -1,
    }
}

/// The state of libtorch's own generator of `device`, as bytes (`[n]`, uint8, on the CPU).
///
/// # Errors
/// When the device is absent.
pub fn generator_state(device: Device) -> Result<Tensor> {
    // SAFETY: the call takes nothing but an index.
    new_tensor(|out| unsafe { portolan_generator_state(cuda_index_of(device), out) })
}

/// Restores a state of libtorch's own generator of `device` that [`generator_state`] returned.
///
/// # Errors
/// When the device is absent, or the bytes are no such state.
pub fn set_generator_state(device: Device, state: &Tensor) -> Result<()> {
    // SAFETY: `state` lives until the call returns, and libtorch checks its contents.
    check(unsafe { portolan_set_generator_state(cuda_index_of(device), state.as_ptr()) })
}

/// A new CPU tensor of this shape, whose memory, at first all zeros, `fill` writes.
///
/// The zeros are written without libtorch's threads. Every calling thread would get an OpenMP team
/// of its own, and teams go to sleep between operations once a process has more threads than cores:
/// with a loader that made its batches that way, training on the CPU took almost twice as long.
pub fn from_fill<T: Element>(shape: &[i64], fill: impl FnOnce(&mut [T])) -> Tensor {
    let tensor = Tensor::empty(shape, (T::KIND, Device::Cpu));
    let n = tensor.numel();
    if n > 0 {
        let start = tensor.data_ptr().cast::<T>();
        // SAFETY: the tensor is new, so it is contiguous and not shared, and it has room for n
        // numbers of the type T. Zero bytes are the number zero in all of libtorch's types.
        fill(unsafe {
            start.write_bytes(0, n);
            std::slice::from_raw_parts_mut(start, n)
        });
    }
    tensor
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tch::Kind;

    use super::*;

    const CPU: Device = Device::Cpu;

    #[test]
    fn a_tensor_is_written_in_its_place() {
        let tensor = from_fill(&[2, 3], |values: &mut [f32]| values[4] = 7.0);
        assert_eq!(
            Vec::<f32>::try_from(tensor.view([-1])).unwrap(),
            [0.0, 0.0, 0.0, 0.0, 7.0, 0.0]
        );
        assert_eq!(
            from_fill(&[0, 3], |_: &mut [u8]| panic!("there is nothing to write")).size(),
            [0, 3]
        );
    }

    #[test]
    fn a_generators_state_may_be_a_view() {
        let state = generator_state(CPU).unwrap();
        let both = Tensor::stack(&[state.zeros_like(), state.shallow_clone()], 0);
        set_generator_state(CPU, &both.get(1)).unwrap();
        assert_eq!(generator_state(CPU).unwrap(), state);
    }

    #[test]
    fn a_libtorch_exception_becomes_one_sentence() {
        let state = Tensor::from_slice(&[1u8, 2, 3]);
        let error = set_generator_state(CPU, &state).unwrap_err().to_string();
        assert!(error.starts_with("libtorch: "), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn autocast_reaches_products_and_is_left_again() {
        let x = Tensor::ones([4, 4], (Kind::Float, CPU));
        let inside = autocast_bf16(CPU, || x.matmul(&x)).unwrap();
        assert_eq!(inside.kind(), Kind::BFloat16);
        let nested = autocast_bf16(CPU, || full_precision(CPU, || x.matmul(&x)).unwrap()).unwrap();
        assert_eq!(nested.kind(), Kind::Float);
        assert_eq!(x.matmul(&x).kind(), Kind::Float);
    }

    /// An EMA network may therefore run in the region of the network that it follows.
    #[test]
    fn autocast_keeps_no_copies_of_weights_without_gradients() {
        let x = Tensor::ones([4, 4], (Kind::Float, CPU));
        let (followed, ema) = (x.copy().set_requires_grad(true), x.copy());
        autocast_bf16(CPU, || {
            let before = tch::no_grad(|| x.matmul(&ema));
            let _ = ema.shallow_clone().fill_(2.0);
            assert_eq!(x.matmul(&ema), before * 2.0, "a kept copy would be the old one");
            x.matmul(&followed).sum(Kind::Float).backward();
        })
        .unwrap();
        assert_eq!(followed.grad(), &x * 4.0);
    }

    #[test]
    fn autocast_is_left_when_the_body_panics() {
        let panicked = std::panic::catch_unwind(|| autocast_bf16(CPU, || panic!("on purpose")));
        assert!(panicked.is_err());
        let x = Tensor::ones([2, 2], (Kind::Float, CPU));
        assert_eq!(x.matmul(&x).kind(), Kind::Float);
    }
}
