// GELU with its derivative in one pass, for training on the CPU.
//
// libtorch evaluates tanh or erf in the forward pass and again in the backward pass. Here the forward
// pass keeps the derivative in the place of x, and the backward pass only multiplies.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "guarded.h"
#include "loops.h"

namespace {

struct Gelu : torch::autograd::Function<Gelu> {
  static at::Tensor forward(torch::autograd::AutogradContext *ctx, const at::Tensor &x, bool tanh) {
    auto y = at::empty_like(x), derivative = at::empty_like(x);
    auto *from = x.const_data_ptr<float>();
    auto *to = y.data_ptr<float>(), *slope = derivative.data_ptr<float>();
    at::parallel_for(0, x.numel(), at::internal::GRAIN_SIZE, [&](int64_t begin, int64_t end) {
      loops().gelu(from + begin, end - begin, tanh, to + begin, slope + begin);
    });
    ctx->save_for_backward({derivative});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *ctx,
                                                 torch::autograd::variable_list gradients) {
    return {gradients[0] * ctx->get_saved_variables()[0], at::Tensor()};
  }
};

} // namespace

extern "C" {

// out = GELU of x, by its approximation with tanh if asked for.
const char *portolan_gelu(at::Tensor *x, bool tanh, at::Tensor **out) {
  return guarded([&] {
    bool train = at::GradMode::is_enabled() && x->requires_grad();
    bool own = train && x->is_cpu() && x->scalar_type() == at::kFloat && x->is_contiguous();
    *out = new at::Tensor(own ? Gelu::apply(*x, tanh) : at::gelu(*x, tanh ? "tanh" : "none"));
  });
}

} // extern "C"
