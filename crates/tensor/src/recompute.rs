//! Activation checkpointing: parts of a network that run twice to save memory.
#![allow(unsafe_code)] // A closure goes to cpp/portolan.cpp and is called from there.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::Tensor;
use torch_sys::C_tensor;

use crate::Result;
use crate::native::new_tensor;

type Body = Box<dyn Fn(&Tensor) -> Tensor + Send>;

unsafe extern "C" {
    fn portolan_recomputed(
        x: *const C_tensor,
        body: *mut c_void,
        call: unsafe extern "C" fn(*mut c_void, *mut C_tensor) -> *const C_tensor,
        drop: unsafe extern "C" fn(*mut c_void),
        out: *mut *mut C_tensor,
    ) -> *const c_char;
}

/// `body(x)` with activation checkpointing (Chen et al. 2016, arXiv:1604.06174), as
/// `torch.utils.checkpoint`: of the activations only `x` is kept, and the backward pass runs the
/// body again, with the same random numbers and the same autocast. `x` must require gradients. The
/// body's parameters get theirs as usual.
///
/// The body is `Send` because libtorch runs it again in the thread that computes the gradients (on
/// a GPU one of its own), and drops it wherever the last tensor that depends on it is dropped.
///
/// # Errors
/// When libtorch refuses, or the body panics.
pub fn recomputed(x: &Tensor, body: impl Fn(&Tensor) -> Tensor + Send + 'static) -> Result<Tensor> {
    let body: Box<Body> = Box::new(Box::new(body));
    let body = Box::into_raw(body).cast();
    // SAFETY: libtorch owns the body from here on and calls `release` once. It runs the body here
    // and in a backward pass. A graph has one backward pass at a time: other threads may run and
    // release the body (it is `Send`), but never two at once.
    new_tensor(|out| unsafe { portolan_recomputed(x.as_ptr(), body, run, release, out) })
}

/// Calls the body. Returns null if it panics, since a panic must not cross into C++.
unsafe extern "C" fn run(body: *mut c_void, x: *mut C_tensor) -> *const C_tensor {
    // SAFETY: `body` comes from `recomputed` and is not released yet; `x` is a new tensor, owned
    // here.
    let (body, x) = unsafe { (&*body.cast::<Body>(), Tensor::from_ptr(x)) };
    match catch_unwind(AssertUnwindSafe(|| body(&x))) {
        Ok(y) => {
            let pointer = y.as_ptr();
            std::mem::forget(y); // C++ owns it now.
            pointer
        }
        Err(_) => std::ptr::null(),
    }
}

unsafe extern "C" fn release(body: *mut c_void) {
    // SAFETY: called once, with the pointer that `Box::into_raw` made.
    drop(unsafe { Box::from_raw(body.cast::<Body>()) });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tch::{Device, Kind};

    use super::*;
    use crate::autocast_bf16;

    const CPU: Device = Device::Cpu;

    /// A layer with random numbers in it: output, gradients of `x` and of the weight.
    fn gradients(again: bool) -> [Tensor; 3] {
        tch::manual_seed(3);
        let weight = Tensor::randn([4, 4], (Kind::Float, CPU)).set_requires_grad(true);
        let x = Tensor::randn([5, 4], (Kind::Float, CPU)).set_requires_grad(true);
        let of_body = weight.shallow_clone();
        let body = move |x: &Tensor| x.matmul(&of_body).dropout(0.5, true).gelu("none");
        let y = autocast_bf16(CPU, || if again { recomputed(&x, body).unwrap() } else { body(&x) });
        let y = y.unwrap();
        let _ = Tensor::randn([7], (Kind::Float, CPU)); // the generator has moved on since
        y.to_kind(Kind::Float).square().sum(Kind::Float).backward();
        [y, x.grad(), weight.grad()]
    }

    #[test]
    fn a_recomputed_part_gives_the_same_output_and_gradients() {
        let (plain, again) = (gradients(false), gradients(true));
        for (a, b) in plain.iter().zip(&again) {
            assert_eq!(a.kind(), b.kind());
            assert!(a.defined() && a.equal(b), "{a} {b}");
        }
        assert!(plain[2].abs().max().double_value(&[]) > 0.0);
    }

    #[test]
    fn the_body_runs_twice_and_is_let_go() {
        let runs = Arc::new(AtomicUsize::new(0));
        let x = Tensor::ones([2], (Kind::Float, CPU)).set_requires_grad(true);
        let counted = Arc::clone(&runs);
        let y = recomputed(&x, move |x| {
            counted.fetch_add(1, Ordering::Relaxed);
            x * 3.0
        });
        let sum = y.unwrap().sum(Kind::Float);
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        sum.backward();
        assert_eq!(runs.load(Ordering::Relaxed), 2);
        drop(sum);
        assert_eq!(Arc::strong_count(&runs), 1, "the body is released with the graph");
        assert_eq!(x.grad(), Tensor::from_slice(&[3f32, 3.0]));
    }

    #[test]
    fn another_thread_may_run_and_drop_the_body() {
        let held = Arc::new(());
        let weight = Tensor::full([2], 3.0, (Kind::Float, CPU));
        let x = Tensor::ones([2], (Kind::Float, CPU)).set_requires_grad(true);
        let of_body = (Arc::clone(&held), weight);
        let body = move |x: &Tensor| {
            let (_held, weight) = &of_body;
            x * weight
        };
        let y = recomputed(&x, body).unwrap();
        let dropped = std::thread::spawn(move || y.sum(Kind::Float).backward());
        dropped.join().unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(x.grad(), Tensor::from_slice(&[3f32, 3.0]));
    }

    #[test]
    fn a_panic_in_the_body_is_an_error() {
        let x = Tensor::ones([2], (Kind::Float, CPU)).set_requires_grad(true);
        let error = recomputed(&x, |_| panic!("on purpose")).unwrap_err().to_string();
        assert!(error.contains("panicked"), "{error}");
    }
}
