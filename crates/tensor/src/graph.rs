//! CUDA graphs: the kernels of a step, captured once and then launched together, which saves the
//! CPU time of launching each.
#![allow(unsafe_code)] // A graph of libtorch's is held by its pointer.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::Device;

use crate::native::{check, cuda_index_of, use_gpu};
use crate::{Error, Result};

unsafe extern "C" {
    fn portolan_leave_default_stream(cuda_index: i64) -> *const c_char;
    fn portolan_graph_begin(graph: *mut *mut c_void) -> *const c_char;
    fn portolan_graph_end(graph: *mut c_void) -> *const c_char;
    fn portolan_graph_replay(graph: *mut c_void) -> *const c_char;
    fn portolan_graph_free(graph: *mut c_void);
}

/// Moves this thread's GPU work to a stream of its own: the default stream cannot be captured. The
/// device becomes the current one of the thread.
///
/// # Errors
/// When the device is not a GPU, or absent.
pub fn leave_default_stream(device: Device) -> Result<()> {
    use_gpu(device)?;
    // SAFETY: sets a thread-local setting of libtorch, after all queued work has finished.
    check(unsafe { portolan_leave_default_stream(cuda_index_of(device)) })
}

/// Captured GPU work. Each replay runs it on the same tensors, with their current values.
#[derive(Debug)]
pub struct Graph {
    pointer: *mut c_void,
}

impl Graph {
    /// Captures the work that `body` queues on the GPU, without running it. The tensors it returns
    /// get their values at each [`Graph::replay`]. `body` must not wait for the GPU or copy to it.
    ///
    /// # Errors
    /// When `body` fails, panics, or does what a graph cannot hold. Then nothing has run on the
    /// GPU, generators and memory are as before, and another capture may succeed.
    pub fn capture<T, E: From<Error>>(
        body: impl FnOnce() -> Result<T, E>,
    ) -> Result<(Graph, T), E> {
        let mut pointer = std::ptr::null_mut();
        // SAFETY: on success `pointer` is a new graph, owned by `Graph` from here on.
        check(unsafe { portolan_graph_begin(&mut pointer) })?;
        let graph = Graph { pointer };
        let result = catch_unwind(AssertUnwindSafe(body));
        // SAFETY: the graph is valid, and this thread began it. Ended also after a failure, or
        // libtorch would go on capturing.
        let ended = check(unsafe { portolan_graph_end(graph.pointer) });
        let value = result.map_err(|_| Error::Panicked)??;
        ended?;
        Ok((graph, value))
    }

    /// Queues the captured work.
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
        // SAFETY: released once, by its owner. This also undoes a failed capture.
        unsafe { portolan_graph_free(self.pointer) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tch::Cuda;

    use super::*;
    use crate::{Kind, Tensor, no_grad};

    fn capture<T>(body: impl FnOnce() -> Result<T>) -> Result<(Graph, T)> {
        Graph::capture(body)
    }

    #[test]
    fn a_graph_goes_by_what_its_tensors_hold_at_the_time() {
        let device = Device::cuda_if_available();
        if !device.is_cuda() {
            assert!(capture(|| Ok(())).is_err());
            assert!(leave_default_stream(device).is_err());
            return;
        }
        assert!(Cuda::device_count() > 0);
        leave_default_stream(device).unwrap();
        let (x, rate) = (Tensor::zeros([3], (Kind::Float, device)), crate::scalar(0.5, device));
        let (graph, twice) = capture(|| {
            let _ = no_grad(|| x.shallow_clone().g_add_(&rate));
            Ok(&x * 2.0)
        })
        .unwrap();
        assert_eq!(x.double_value(&[0]), 0.0, "captured, not done");
        graph.replay().unwrap();
        let _ = rate.shallow_clone().fill_(2.0);
        graph.replay().unwrap();
        assert_eq!((x.double_value(&[0]), twice.double_value(&[1])), (2.5, 5.0));
        let failed = capture(|| Ok(x.double_value(&[0])));
        assert!(failed.is_err(), "waiting for the GPU cannot be captured");
        assert_eq!((&x + 1.0).double_value(&[0]), 3.5, "and work goes on");
        assert!(x.rand_like().double_value(&[0]) < 1.0, "random numbers too");
        let again = capture(|| Ok(x.rand_like())).map(|(graph, _)| graph.replay());
        again.unwrap().unwrap();
    }
}
