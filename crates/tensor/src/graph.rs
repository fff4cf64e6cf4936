//! CUDA graphs: a step's kernels written down once and started together from then on, which takes the CPU's time for
//! each of them out of the step.
#![allow(unsafe_code)] // A graph of libtorch's is held by its pointer.

use anyhow::{Result, anyhow};
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::Device;

use crate::native::{check, generator_index, use_gpu};

unsafe extern "C" {
    fn portolan_leave_default_stream(cuda_index: i64) -> *const c_char;
    fn portolan_graph_begin(graph: *mut *mut c_void) -> *const c_char;
    fn portolan_graph_end(graph: *mut c_void) -> *const c_char;
    fn portolan_graph_replay(graph: *mut c_void) -> *const c_char;
    fn portolan_graph_free(graph: *mut c_void);
}

/// Has this thread queue its work on a stream of its own from now on: the default one cannot be captured. The device becomes
/// the thread's current one.
///
/// # Errors
/// When the device is no GPU, or absent.
pub fn leave_default_stream(device: Device) -> Result<()> {
    use_gpu(device)?;
    // SAFETY: sets a thread-local setting of libtorch, after waiting for all work there is.
    check(unsafe { portolan_leave_default_stream(generator_index(device)) })
}

/// Work on a GPU that can be done again and again: on the same tensors, with what they hold at the time.
#[derive(Debug)]
pub struct Graph {
    pointer: *mut c_void,
}

impl Graph {
    /// Writes down what `body` queues on the GPU, without doing it. Its results are tensors whose values come with each
    /// [`Graph::replay`]. `body` must not wait for the GPU, nor copy anything to it.
    ///
    /// # Errors
    /// When `body` fails, panics, or does what a graph cannot hold. Nothing has been done on the GPU then, and generators and
    /// memory are as before: work goes on, and another capture may succeed.
    pub fn capture<T>(body: impl FnOnce() -> Result<T>) -> Result<(Graph, T)> {
        let mut pointer = std::ptr::null_mut();
        // SAFETY: on success `pointer` is a new graph, owned by `Graph` from here on.
        check(unsafe { portolan_graph_begin(&mut pointer) })?;
        let graph = Graph { pointer };
        let made = catch_unwind(AssertUnwindSafe(body));
        // SAFETY: the graph is valid, and was begun by this thread. Ended whatever came of the body: libtorch would
        // otherwise go on writing down.
        let ended = check(unsafe { portolan_graph_end(graph.pointer) });
        let made = made.map_err(|_| anyhow!("the captured work panicked"))??;
        ended?;
        Ok((graph, made))
    }

    /// Queues the work once more.
    ///
    /// # Errors
    /// When CUDA refuses.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: the graph is valid and complete.
        check(unsafe { portolan_graph_replay(self.pointer) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: released once, by its owner. A capture that did not succeed is undone.
        unsafe { portolan_graph_free(self.pointer) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Kind, Tensor, no_grad};
    use tch::Cuda;

    #[test]
    fn a_graph_goes_by_what_its_tensors_hold_at_the_time() {
        let device = Device::cuda_if_available();
        if !device.is_cuda() {
            assert!(Graph::capture(|| Ok(())).is_err());
            assert!(leave_default_stream(device).is_err());
            return;
        }
        assert!(Cuda::device_count() > 0);
        leave_default_stream(device).unwrap();
        let (x, rate) = (Tensor::zeros([3], (Kind::Float, device)), crate::number(0.5, device));
        let (graph, twice) = Graph::capture(|| {
            let _ = no_grad(|| x.shallow_clone().g_add_(&rate));
            Ok(&x * 2.0)
        })
        .unwrap();
        assert_eq!(x.double_value(&[0]), 0.0, "captured, not done");
        graph.replay().unwrap();
        let _ = rate.shallow_clone().fill_(2.0);
        graph.replay().unwrap();
        assert_eq!((x.double_value(&[0]), twice.double_value(&[1])), (2.5, 5.0));
        let failed = Graph::capture(|| Ok(x.double_value(&[0])));
        assert!(failed.is_err(), "waiting for the GPU cannot be captured");
        assert_eq!((&x + 1.0).double_value(&[0]), 3.5, "and work goes on");
        assert!(x.rand_like().double_value(&[0]) < 1.0, "random numbers too");
        let again = Graph::capture(|| Ok(x.rand_like())).map(|(graph, _)| graph.replay());
        again.unwrap().unwrap();
    }
}
