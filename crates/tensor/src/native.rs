//! What `cpp/portolan.cpp` and `cpp/cuda.cpp` add to tch, and access to a tensor's memory, behind safe functions.
#![allow(unsafe_code)] // The one place of Portolan where foreign functions are called and foreign memory is written.

use anyhow::{Result, bail};
use std::ffi::{CStr, c_char};
use tch::kind::Element;
use tch::{Device, Tensor};
use torch_sys::C_tensor;

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

/// Turns what a C++ function returned into a result.
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
    // libtorch appends its own stack trace; its first line says what was wrong.
    bail!("libtorch: {}", text.lines().next().unwrap_or_default())
}

/// Leaves an autocast region when dropped, also when the region panicked.
struct Region {
    cuda: bool,
    previous: bool,
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: thread-local settings of libtorch; `Region` exists only after a matching enter.
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
/// Within the outermost region libtorch keeps the bfloat16 copies of weights that require gradients, and of no others: an
/// EMA network's are not kept. A pass under `no_grad` over trained weights therefore needs a region of its own; its
/// copies carry no gradient, and a pass after it in the same region would train nothing.
///
/// # Errors
/// When libtorch refuses autocast on this device.
pub fn autocast_bf16<T>(device: Device, body: impl FnOnce() -> T) -> Result<T> {
    in_region(device, true, body)
}

/// Runs `body` with autocast off on `device`, whatever the region around it: what losses need, since a
/// cast to float32 inside autocast does not keep the matrix products in float32.
///
/// # Errors
/// When libtorch refuses autocast on this device.
pub fn full_precision<T>(device: Device, body: impl FnOnce() -> T) -> Result<T> {
    in_region(device, false, body)
}

/// Asks libtorch for algorithms that give the same bits each time; an operation that has none fails.
pub fn deterministic(on: bool) {
    // SAFETY: sets two global flags of libtorch.
    unsafe { portolan_set_deterministic(on) }
}

/// Makes `device`, if it is a GPU, the current one of this thread: CUDA and libtorch put there what names no device of
/// its own (streams, graphs, page-locked memory). To be called in every thread that works for a GPU;
/// [`device::choose`](crate::device::choose) does it for the thread that calls it.
///
/// # Errors
/// When the device is absent.
pub fn use_gpu(device: Device) -> Result<()> {
    if !device.is_cuda() {
        return Ok(());
    }
    // SAFETY: sets a thread-local setting of CUDA.
    check(unsafe { portolan_use_gpu(generator_index(device)) })
}

/// Turns TF32 off for convolutions, where PyTorch has it on by default, so that float32 means float32.
///
/// # Errors
/// When libtorch refuses.
pub(crate) fn full_float32() -> Result<()> {
    // SAFETY: sets a global flag of libtorch.
    check(unsafe { portolan_full_float32() })
}

/// A copy of a CPU tensor in page-locked memory, or the tensor itself if it lies there. Not tch's `pin_memory`, which hands
/// on a device that libtorch 2.11 wants no more and warns of.
pub(crate) fn pinned(tensor: &Tensor) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: on success `out` is a new tensor, owned by the `Tensor` made of it.
    unsafe {
        check(portolan_page_locked(tensor.as_ptr(), &mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// A copy on the GPU `device` of a CPU tensor in page-locked memory. Neither the CPU nor the work that is queued on the
/// GPU waits for it; work queued from now on does.
pub(crate) fn upload_pinned(pinned: &Tensor, device: Device) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: on success `out` is a new tensor, owned by the `Tensor` made of it. libtorch keeps page-locked memory from
    // being reused before the copy is over.
    unsafe {
        check(portolan_upload(pinned.as_ptr(), generator_index(device), &mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// The most bytes that tensors on this GPU took at one time since the last call, and the memory that graphs captured
/// before it keep for their replays. (What a graph captured since then needs is counted twice.)
///
/// # Errors
/// When `device` is no GPU, or absent.
pub fn peak_memory(device: Device) -> Result<u64> {
    let mut bytes = 0;
    // SAFETY: writes one number.
    check(unsafe { portolan_peak_memory(generator_index(device), &mut bytes) })?;
    Ok(bytes as u64)
}

/// The bytes of this GPU's memory that no program has taken.
///
/// # Errors
/// When `device` is no GPU, or absent.
pub fn free_memory(device: Device) -> Result<u64> {
    let mut bytes = 0;
    // SAFETY: writes one number.
    check(unsafe { portolan_free_memory(generator_index(device), &mut bytes) })?;
    Ok(bytes as u64)
}

/// Has libtorch say on standard error where the program waits for a GPU: what no step of training should do.
pub fn report_waits(on: bool) {
    // SAFETY: sets a global flag of libtorch.
    unsafe { portolan_report_waits(on) }
}

/// libtorch's own generators are global, one for each device; `-1` stands for the CPU's.
pub(crate) fn generator_index(device: Device) -> i64 {
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
    let mut out = std::ptr::null_mut();
    // SAFETY: on success `out` is a new tensor, owned by the `Tensor` made of it.
    unsafe {
        check(portolan_generator_state(generator_index(device), &mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// Puts libtorch's own generator of `device` back into a state that [`generator_state`] returned.
///
/// # Errors
/// When the device is absent or the bytes are not such a state.
pub fn set_generator_state(device: Device, state: &Tensor) -> Result<()> {
    // SAFETY: `state` is a valid tensor, borrowed for the call; libtorch checks its contents.
    check(unsafe { portolan_set_generator_state(generator_index(device), state.as_ptr()) })
}

/// A tensor of this shape on the CPU with the values that `fill` writes, in the tensor's own memory. They are zeros
/// before.
///
/// libtorch's own threads are not asked to help with the zeros: each thread that did so would get a team of them, and
/// OpenMP lets the teams of a process sleep between one operation and the next as soon as there are more threads than
/// cores. Beside a loader that makes its batches so, training on the CPU took almost twice as long.
pub fn from_fill<T: Element>(shape: &[i64], fill: impl FnOnce(&mut [T])) -> Tensor {
    let tensor = Tensor::empty(shape, (T::KIND, Device::Cpu));
    let n = tensor.numel();
    if n > 0 {
        let start = tensor.data_ptr().cast::<T>();
        // SAFETY: the tensor is new, so contiguous and known to nobody else while it is written; it has room for n
        // numbers of the type from this address on, of which all bits zero are the number zero.
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
    use super::*;
    use tch::Kind;

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

    /// What lets an EMA network run in the region of the network that it follows.
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
