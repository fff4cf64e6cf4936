// The approximation of GELU with tanh on the CPU, in training with its derivative in one pass.
//
// libtorch evaluates tanh in the forward pass and again in the backward pass. Here the forward
// pass keeps the derivative in the place of x, and the backward pass only multiplies. Without gradients
// the same loop computes y alone, so that what is recomputed in a backward pass is equal to the bit.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "guarded.h"
#include "loops.h"

namespace {

// y, and its derivative unless that is undefined.
void gelu_into(const at::Tensor &x, at::Tensor &y, at::Tensor &derivative) {
  auto *from = x.const_data_ptr<float>();
  auto *to = y.data_ptr<float>();
  auto *slope = derivative.defined() ? derivative.data_ptr<float>() : nullptr;
  at::parallel_for(0, x.numel(), at::internal::GRAIN_SIZE, [&](int64_t begin, int64_t end) {
    loops().gelu(from + begin, end - begin, to + begin, slope ? slope + begin : nullptr);
  });
}

struct Gelu : torch::autograd::Function<Gelu> {
  static at::Tensor forward(torch::autograd::AutogradContext *ctx, const at::Tensor &x) {
    auto y = at::empty_like(x), derivative = at::empty_like(x);
    gelu_into(x, y, derivative);
    ctx->save_for_backward({derivative});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *ctx,
                                                 torch::autograd::variable_list gradients) {
    return {gradients[0] * ctx->get_saved_variables()[0]};
  }
};

} // namespace

extern "C" {

// out = the approximation of GELU of x with tanh.
const char *portolan_gelu_tanh(at::Tensor *x, at::Tensor **out) {
  return guarded([&] {
    if (!x->is_cpu() || x->scalar_type() != at::kFloat || !x->is_contiguous()) {
      *out = new at::Tensor(at::gelu(*x, "tanh"));
    } else if (at::GradMode::is_enabled() && x->requires_grad()) {
      *out = new at::Tensor(Gelu::apply(*x));
    } else {
      auto y = at::empty_like(*x), none = at::Tensor();
      gelu_into(*x, y, none);
      *out = new at::Tensor(y);
    }
  });
}

} // extern "C"
