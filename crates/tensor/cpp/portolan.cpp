// What tch lacks. Functions for GPUs are in cuda.cpp.
//
// Functions return null, or a message if libtorch threw, which the caller releases with
// portolan_free: no exception may cross into Rust. A tensor is a `torch::Tensor *`, as in tch.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/csrc/autograd/autograd.h>

#include "guarded.h"

#ifdef PORTOLAN_CUDA
#include <ATen/cuda/CUDAGeneratorImpl.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

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

// A closure of Rust's, with the functions that call and release it.
using Call = at::Tensor *(*)(void *body, at::Tensor *x);
struct Body : torch::CustomClassHolder {
  Body(void *body, Call call, void (*drop)(void *)) : body(body), call(call), drop(drop) {}
  ~Body() override { drop(body); }
  at::Tensor operator()(const at::Tensor &x) const {
    std::unique_ptr<at::Tensor> y(call(body, new at::Tensor(x)));
    TORCH_CHECK(y, "the recomputed part of the network panicked");
    return *y;
  }
  void *body;
  Call call;
  void (*drop)(void *);
};

// Activation checkpointing: runs a body without keeping its activations, and again in the backward
// pass, with the same state of autocast and of the device's generator.
struct Recomputed : torch::autograd::Function<Recomputed> {
  static at::Tensor forward(torch::autograd::AutogradContext *ctx, const at::Tensor &x,
                            const c10::intrusive_ptr<Body> &body) {
    ctx->save_for_backward({x});
    ctx->saved_data["body"] = c10::IValue::make_capsule(body);
    ctx->saved_data["autocast"] = at::autocast::is_autocast_enabled(x.device().type());
    auto g = generator(x.is_cuda() ? x.get_device() : -1);
    {
      std::lock_guard<std::mutex> lock(g.mutex());
      ctx->saved_data["random"] = g.get_state();
    }
    return (*body)(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *ctx,
                                                 torch::autograd::variable_list gradients) {
    auto x = ctx->get_saved_variables()[0].detach().requires_grad_(true);
    auto body = c10::static_intrusive_pointer_cast<Body>(ctx->saved_data["body"].toCapsule());
    auto y = again(x, *body, ctx->saved_data["autocast"].toBool(), ctx->saved_data["random"].toTensor());
    torch::autograd::backward({y}, {gradients[0]});
    return {x.grad(), at::Tensor()};
  }

  static at::Tensor again(const at::Tensor &x, const Body &body, bool autocast, const at::Tensor &random) {
    auto device = x.device().type();
    auto g = generator(x.is_cuda() ? x.get_device() : -1);
    auto set_random = [&](const at::Tensor &state) {
      std::lock_guard<std::mutex> lock(g.mutex());
      auto before = g.get_state();
      g.set_state(state);
      return before;
    };
    at::AutoGradMode with_gradients(true);
    auto random_before = set_random(random);
    auto autocast_before = at::autocast::is_autocast_enabled(device);
    auto dtype_before = at::autocast::get_autocast_dtype(device);
    at::autocast::set_autocast_dtype(device, at::kBFloat16);
    at::autocast::set_autocast_enabled(device, autocast);
    at::autocast::increment_nesting();
    auto restore = [&] {
      if (at::autocast::decrement_nesting() == 0)
        at::autocast::clear_cache();
      at::autocast::set_autocast_enabled(device, autocast_before);
      at::autocast::set_autocast_dtype(device, dtype_before);
      set_random(random_before);
    };
    try {
      auto y = body(x);
      restore();
      return y;
    } catch (...) {
      restore();
      throw;
    }
  }
};

} // namespace

extern "C" {

// out = body(x). `drop` releases the body when nothing needs it any more, also after an error.
const char *portolan_recomputed(at::Tensor *x, void *body, Call call, void (*drop)(void *),
                                at::Tensor **out) {
  auto holder = c10::make_intrusive<Body>(body, call, drop);
  return guarded([&] { *out = new at::Tensor(Recomputed::apply(*x, holder)); });
}

void portolan_free(const char *message) { std::free(const_cast<char *>(message)); }

// The functions over lists apply one operation to all tensors in as few kernels as libtorch can: on
// a GPU a constant number.

const char *portolan_foreach_zero(at::Tensor *const *items, size_t n) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    at::_foreach_zero_(tensors(items, n));
  });
}

// Adds one to each.
const char *portolan_foreach_increment(at::Tensor *const *items, size_t n) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    at::_foreach_add_(tensors(items, n), 1);
  });
}

// Drops each tensor's gradient.
const char *portolan_foreach_clear_grad(at::Tensor *const *items, size_t n) {
  return guarded([&] {
    for (auto &tensor : tensors(items, n))
      tensor.mutable_grad().reset();
  });
}

// out = the Euclidean norm of each, [n].
const char *portolan_foreach_norms(at::Tensor *const *items, size_t n, at::Tensor **out) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    *out = new at::Tensor(at::stack(at::_foreach_norm(tensors(items, n), 2)));
  });
}

// Multiplies all by one factor (a scalar tensor), or each by its own ([n], which takes a kernel for
// each).
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
                              at::Tensor *const *buffers, size_t n, at::Tensor *lr, double momentum,
                              double weight_decay, bool nesterov) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    auto momenta = buffers ? tensors(buffers, n) : std::vector<at::Tensor>{};
    at::_fused_sgd_(tensors(params, n), tensors(gradients, n), momenta, weight_decay, momentum, *lr,
                    /*dampening=*/0.0, nesterov, /*maximize=*/false, /*is_first_step=*/false);
  });
}

// As torch.optim.AdamW without weight decay. Increments `steps`.
const char *portolan_adamw_step(at::Tensor *const *params, at::Tensor *const *gradients,
                                at::Tensor *const *means, at::Tensor *const *squares,
                                at::Tensor *const *steps, size_t n, at::Tensor *lr, double beta1,
                                double beta2, double eps) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    auto counts = tensors(steps, n);
    at::_foreach_add_(counts, 1);
    at::_fused_adamw_(tensors(params, n), tensors(gradients, n), tensors(means, n),
                      tensors(squares, n), {}, counts, *lr, beta1, beta2, /*weight_decay=*/0.0, eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  });
}

// targets[i] += weight * (sources[i] - targets[i]). libtorch's own _foreach_lerp_ takes no weight
// on the device.
const char *portolan_foreach_lerp(at::Tensor *const *targets, at::Tensor *const *sources, size_t n,
                                  at::Tensor *weight) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    auto followers = tensors(targets, n);
    auto steps = at::_foreach_sub(tensors(sources, n), followers);
    at::_foreach_mul_(steps, *weight);
    at::_foreach_add_(followers, steps);
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

// By default libtorch would also fill every new tensor with NaN in this mode, which costs a pass
// over memory for each operation, by OpenMP's threads even if a single thread allocates.
void portolan_set_deterministic(bool on) {
  at::globalContext().setDeterministicFillUninitializedMemory(false);
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
    // A copy, since libtorch reads from the start of the storage, even for a view of a later part.
    auto whole = state->clone(at::MemoryFormat::Contiguous);
    auto g = generator(cuda_index);
    std::lock_guard<std::mutex> lock(g.mutex());
    g.set_state(whole);
  });
}
}
