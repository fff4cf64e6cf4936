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

void portolan_set_deterministic(bool on) {
  at::globalContext().setDeterministicAlgorithms(on, /*warn_only=*/false);
  at::globalContext().setDeterministicCuDNN(on);
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
