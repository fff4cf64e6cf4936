// What tch lacks, and nothing else. Every function here is declared in src/native.rs.
//
// Each returns null, or a message (to be released with portolan_free) when libtorch threw: an exception
// must not cross into Rust. A tensor is a `torch::Tensor *`, as tch has it.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#ifdef PORTOLAN_CUDA
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

template <typename F> const char *guarded(F &&body) {
  try {
    body();
    return nullptr;
  } catch (const std::exception &e) {
    return strdup(e.what());
  } catch (...) {
    return strdup("libtorch threw something that is not an exception");
  }
}

std::vector<at::Tensor> tensors(at::Tensor *const *items, size_t n) {
  std::vector<at::Tensor> out;
  out.reserve(n);
  for (size_t i = 0; i < n; ++i)
    out.push_back(*items[i]);
  return out;
}

c10::DeviceType device_type(bool cuda) { return cuda ? c10::kCUDA : c10::kCPU; }

at::Generator generator(int64_t cuda_index) {
  if (cuda_index < 0)
    return at::detail::getDefaultCPUGenerator();
#ifdef PORTOLAN_CUDA
  return at::cuda::detail::getDefaultCUDAGenerator(static_cast<c10::DeviceIndex>(cuda_index));
#else
  throw std::runtime_error("this build of Portolan has no CUDA");
#endif
}

} // namespace

extern "C" {

void portolan_free(const char *message) { std::free(const_cast<char *>(message)); }

// The functions over lists do the same to every tensor of a list, in as few kernels as libtorch can: on a GPU a
// constant number, however many tensors there are.

const char *portolan_foreach_zero(at::Tensor *const *items, size_t n) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    at::_foreach_zero_(tensors(items, n));
  });
}

// out = the Euclidean norm of each, [n].
const char *portolan_foreach_norms(at::Tensor *const *items, size_t n, at::Tensor **out) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    *out = new at::Tensor(at::stack(at::_foreach_norm(tensors(items, n), 2)));
  });
}

// Multiplies all by one factor (a scalar tensor), or each by its own ([n]; a kernel for each).
const char *portolan_foreach_scale(at::Tensor *const *items, size_t n, at::Tensor *factor) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    if (factor->dim() == 0)
      at::_foreach_mul_(tensors(items, n), *factor);
    else
      at::_foreach_mul_(tensors(items, n), factor->unbind());
  });
}

// out[i] = items[i] + weight * others[i]
const char *portolan_foreach_add(at::Tensor *const *items, at::Tensor *const *others, size_t n,
                                 double weight, at::Tensor **out) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    auto sums = at::_foreach_add(tensors(items, n), tensors(others, n), weight);
    for (size_t i = 0; i < n; ++i)
      out[i] = new at::Tensor(sums[i]);
  });
}

// As torch.optim.SGD without dampening; without buffers (null) there is no momentum.
const char *portolan_sgd_step(at::Tensor *const *params, at::Tensor *const *gradients,
                              at::Tensor *const *buffers, size_t n, double lr, double momentum,
                              double weight_decay, bool nesterov) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    auto momenta = buffers ? tensors(buffers, n) : std::vector<at::Tensor>{};
    at::_fused_sgd_(tensors(params, n), tensors(gradients, n), momenta, weight_decay, momentum, lr,
                    /*dampening=*/0.0, nesterov, /*maximize=*/false, /*is_first_step=*/false);
  });
}

// As torch.optim.AdamW. `steps` are counted here.
const char *portolan_adamw_step(at::Tensor *const *params, at::Tensor *const *gradients,
                                at::Tensor *const *means, at::Tensor *const *squares,
                                at::Tensor *const *steps, size_t n, double lr, double beta1,
                                double beta2, double eps, double weight_decay) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    auto counts = tensors(steps, n);
    at::_foreach_add_(counts, 1);
    at::_fused_adamw_(tensors(params, n), tensors(gradients, n), tensors(means, n),
                      tensors(squares, n), {}, counts, lr, beta1, beta2, weight_decay, eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  });
}

// targets[i] += weight * (sources[i] - targets[i]), all of them in one call.
const char *portolan_foreach_lerp(at::Tensor *const *targets, at::Tensor *const *sources, size_t n,
                                  double weight) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    at::_foreach_lerp_(tensors(targets, n), tensors(sources, n), weight);
  });
}

bool portolan_autocast_enabled(bool cuda) {
  return at::autocast::is_autocast_enabled(device_type(cuda));
}

const char *portolan_autocast_enter(bool cuda, bool enabled) {
  return guarded([&] {
    at::autocast::set_autocast_dtype(device_type(cuda), at::kBFloat16);
    at::autocast::set_autocast_enabled(device_type(cuda), enabled);
    at::autocast::increment_nesting();
  });
}

// Leaving the outermost region drops the cached bfloat16 copies of the weights.
void portolan_autocast_leave(bool cuda, bool previous) {
  if (at::autocast::decrement_nesting() == 0)
    at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device_type(cuda), previous);
}

void portolan_autocast_clear_cache() { at::autocast::clear_cache(); }

// libtorch would, besides, fill every new tensor with NaN, to show who reads what was never written: a pass over
// memory for each operation, and by OpenMP's threads also where a single thread asked for memory.
void portolan_set_deterministic(bool on) {
  at::globalContext().setDeterministicFillUninitializedMemory(false);
  at::globalContext().setDeterministicAlgorithms(on, /*warn_only=*/false);
  at::globalContext().setDeterministicCuDNN(on);
}

// The most bytes that tensors of a GPU took at one time since the last call.
const char *portolan_peak_memory(int64_t cuda_index, int64_t *bytes) {
  return guarded([&] {
#ifdef PORTOLAN_CUDA
    auto device = static_cast<c10::DeviceIndex>(cuda_index);
    *bytes = c10::cuda::CUDACachingAllocator::getDeviceStats(device).allocated_bytes[0].peak;
    c10::cuda::CUDACachingAllocator::resetPeakStats(device);
#else
    throw std::runtime_error("this build of Portolan has no CUDA");
#endif
  });
}

// Has libtorch say on stderr where the program waits for a GPU.
void portolan_report_waits(bool on) {
#ifdef PORTOLAN_CUDA
  c10::cuda::warning_state().set_sync_debug_mode(on ? c10::cuda::SyncDebugMode::L_WARN
                                                    : c10::cuda::SyncDebugMode::L_DISABLED);
#endif
}

// The state of libtorch's own generator (cuda_index < 0: the CPU's) as a byte tensor on the CPU.
const char *portolan_generator_state(int64_t cuda_index, at::Tensor **out) {
  return guarded([&] {
    auto g = generator(cuda_index);
    std::lock_guard<std::mutex> lock(g.mutex());
    *out = new at::Tensor(g.get_state());
  });
}

const char *portolan_set_generator_state(int64_t cuda_index, at::Tensor *state) {
  return guarded([&] {
    auto g = generator(cuda_index);
    std::lock_guard<std::mutex> lock(g.mutex());
    g.set_state(*state);
  });
}
}
