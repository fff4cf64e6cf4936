// Functions for GPUs: the current device, page-locked memory, streams and graphs. They are declared
// in src/native.rs and src/graph.rs. Without CUDA they return an error.

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <torch/csrc/autograd/autograd.h>

#include "guarded.h"

#ifdef PORTOLAN_CUDA
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#endif

#include <cstdint>
#include <map>
#include <memory>

namespace {

#ifdef PORTOLAN_CUDA

namespace allocator = c10::cuda::CUDACachingAllocator;

// Calls a function and ignores its exceptions.
template <typename F> void try_to(F &&undo) {
  try {
    undo();
  } catch (const std::exception &) {
  }
}

// A graph that undoes a failed capture. libtorch's own does not (CUDAGraph.cpp: "I don't see an
// easy way for reset() to gracefully fix all such possible error states"): its registered
// generators would stay in capture mode, in which they refuse to draw outside of a capture, and
// both allocators would keep serving its memory pool.
struct Graph : at::cuda::CUDAGraph {
  ~Graph() {
    if (capture_ended_)
      return; // libtorch releases everything then
    for (auto &[generator, increment] : captured_generator_states_)
      generator->capturing_ = false;
    if (capture_dev_ == UNDEFINED_DEVICE)
      return; // it failed before any memory pool was asked for
    auto host = at::getHostAllocator(at::kCUDA);
    try_to([&] { allocator::endAllocateToPool(capture_dev_, mempool_id_); });
    try_to([&] { host->end_allocate_to_pool(mempool_id_); });
    try_to([&] { allocator::get()->releasePool(capture_dev_, mempool_id_); });
    try_to([&] { host->release_pool(mempool_id_); });
  }
};

// The bytes that graphs reserve for their replays and that no tensor holds in between.
int64_t kept_by_graphs(c10::DeviceIndex device) {
  int64_t bytes = 0;
  for (auto &segment : allocator::snapshot({0, 0}, /*include_traces=*/false).segments)
    if (segment.device == device && segment.owner_private_pool_id != c10::MempoolId_t{0, 0})
      bytes += int64_t(segment.total_size) - int64_t(segment.allocated_size);
  return bytes;
}

#else

[[noreturn]] void no_cuda() { throw std::runtime_error("this build of Portolan has no CUDA"); }

#endif

} // namespace

extern "C" {

// Makes this GPU the current one of this thread, where memory, streams, generators and graphs go.
const char *portolan_use_gpu(int64_t cuda_index) {
  return guarded([&] {
#ifdef PORTOLAN_CUDA
    c10::cuda::set_device(static_cast<c10::DeviceIndex>(cuda_index));
#else
    no_cuda();
#endif
  });
}

// Has cuDNN compute float32 convolutions in float32, as cuBLAS computes float32 products by
// default.
const char *portolan_full_float32() {
  return guarded([] { at::globalContext().setAllowTF32CuDNN(false); });
}

// out = a copy in page-locked memory, or the tensor itself if it is there already. libtorch knows
// the device and would warn if it were passed.
const char *portolan_page_locked(at::Tensor *x, at::Tensor **out) {
  return guarded([&] { *out = new at::Tensor(x->is_pinned() ? *x : x->pin_memory()); });
}

// Copies a page-locked tensor to a GPU on a stream of its own, beside the queued work. Work that is
// queued from now on waits for the copy.
const char *portolan_upload(at::Tensor *pinned, int64_t cuda_index, at::Tensor **out) {
  return guarded([&] {
#ifdef PORTOLAN_CUDA
    auto index = static_cast<c10::DeviceIndex>(cuda_index);
    thread_local std::map<c10::DeviceIndex, c10::cuda::CUDAStream> streams;
    auto aside = streams.try_emplace(index, c10::cuda::getStreamFromPool(false, index)).first->second;
    auto current = c10::cuda::getCurrentCUDAStream(index);
    c10::Event arrived(c10::kCUDA);
    at::Tensor copy;
    {
      c10::StreamGuard guard(aside.unwrap());
      copy = pinned->to(c10::Device(c10::kCUDA, index), /*non_blocking=*/true);
      arrived.record(aside.unwrap());
    }
    arrived.block(current.unwrap());
    copy.record_stream(current.unwrap()); // its memory is the other stream's, and must outlive its use here
    *out = new at::Tensor(copy);
#else
    no_cuda();
#endif
  });
}

// The peak of the bytes that tensors of a GPU took since the last call, plus what graphs reserve.
const char *portolan_peak_memory(int64_t cuda_index, int64_t *bytes) {
  return guarded([&] {
#ifdef PORTOLAN_CUDA
    auto device = static_cast<c10::DeviceIndex>(cuda_index);
    *bytes = allocator::getDeviceStats(device).allocated_bytes[0].peak + kept_by_graphs(device);
    allocator::resetPeakStats(device);
#else
    no_cuda();
#endif
  });
}

// The free bytes of a GPU's memory.
const char *portolan_free_memory(int64_t cuda_index, int64_t *bytes) {
  return guarded([&] {
#ifdef PORTOLAN_CUDA
    auto device = static_cast<c10::DeviceIndex>(cuda_index);
    *bytes = at::getDeviceAllocator(c10::kCUDA)->getMemoryInfo(device).first;
#else
    no_cuda();
#endif
  });
}

// Has libtorch warn on stderr where the program waits for a GPU.
void portolan_report_waits(bool on) {
#ifdef PORTOLAN_CUDA
  c10::cuda::warning_state().set_sync_debug_mode(on ? c10::cuda::SyncDebugMode::L_WARN
                                                    : c10::cuda::SyncDebugMode::L_DISABLED);
#endif
}

// Makes a new stream the current one of this thread. Work on it can be captured.
const char *portolan_leave_default_stream(int64_t cuda_index) {
  return guarded([&] {
#ifdef PORTOLAN_CUDA
    auto index = static_cast<c10::DeviceIndex>(cuda_index);
    c10::cuda::device_synchronize();
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(false, index));
#else
    no_cuda();
#endif
  });
}

// From here to portolan_graph_end, the work that this thread queues is captured and not run. Other
// threads may allocate page-locked memory meanwhile: the restrictions of a capture hold for this
// thread.
const char *portolan_graph_begin(void **graph) {
  return guarded([&] {
#ifdef PORTOLAN_CUDA
    c10::cuda::device_synchronize();
    allocator::emptyCache(); // the graph takes memory of its own
    auto begun = std::make_unique<Graph>();
    begun->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    *graph = begun.release();
#else
    no_cuda();
#endif
  });
}

const char *portolan_graph_end(void *graph) {
  return guarded([&] {
#ifdef PORTOLAN_CUDA
    static_cast<Graph *>(graph)->capture_end();
#endif
  });
}

const char *portolan_graph_replay(void *graph) {
  return guarded([&] {
#ifdef PORTOLAN_CUDA
    static_cast<Graph *>(graph)->replay();
#endif
  });
}

// Undoes the capture if it failed.
void portolan_graph_free(void *graph) {
#ifdef PORTOLAN_CUDA
  delete static_cast<Graph *>(graph);
#endif
}

} // extern "C"
