// Linear layers by oneDNN where MKL is slow.
//
// libtorch multiplies by MKL, which takes its AVX2 kernels on every processor that is not Intel's.
// oneDNN, by which libtorch convolves, takes AVX-512 wherever there is one: 1.1 to 2.1 times as fast
// (docs/results/speed.md).

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "guarded.h"
#include "onednn.h"

namespace {

// Multiplications from which on oneDNN's set-up is worth it.
constexpr int64_t ENOUGH = 1 << 20;

bool mkl_is_slow() {
#ifdef PORTOLAN_X86
  static const bool slow = __builtin_cpu_supports("avx512f") && !__builtin_cpu_is("intel");
  return slow;
#else
  return false;
#endif
}

bool by_onednn(const at::Tensor &x, const at::Tensor &weight) {
  return mkl_is_slow() && with_onednn(x) && weight.scalar_type() == at::kFloat && x.dim() > 1 && weight.dim() == 2 &&
         x.size(-1) == weight.size(1) && x.numel() * weight.size(0) >= ENOUGH &&
         !at::autocast::is_autocast_enabled(at::kCPU);
}

// x [n, inputs] times the transpose of weight [outputs, inputs], plus bias. Either may be a transposed view.
at::Tensor product(const at::Tensor &x, const at::Tensor &weight, const Optional &bias) {
  static auto linear = operation<at::Tensor(const at::Tensor &, const at::Tensor &, const Optional &,
                                            std::string_view, Scalars, Text)>("mkldnn::_linear_pointwise", "");
  return linear.call(x, weight, bias, "none", Scalars(), std::nullopt);
}

struct Linear : torch::autograd::Function<Linear> {
  static at::Tensor forward(torch::autograd::AutogradContext *ctx, const at::Tensor &x, const at::Tensor &weight,
                            const Optional &bias) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["bias"] = bias.has_value();
    return product(x, weight, bias);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *ctx,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    const auto dy = gradients[0].contiguous();
    at::Tensor dx, dweight, dbias;
    if (ctx->needs_input_grad(0))
      dx = product(dy, weight.t().contiguous(), std::nullopt);
    if (ctx->needs_input_grad(1))
      dweight = product(dy.t(), x.t(), std::nullopt);
    // An absent bias has no place among the inputs.
    if (ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(2))
      dbias = dy.sum(0);
    return {dx, dweight, dbias};
  }
};

} // namespace

extern "C" {

// out = x [..., inputs] times the transpose of weight [outputs, inputs], plus bias unless that is null.
const char *portolan_linear(at::Tensor *x, at::Tensor *weight, at::Tensor *bias, at::Tensor **out) {
  return guarded([&] {
    const auto plus = bias ? Optional(*bias) : std::nullopt;
    if (!by_onednn(*x, *weight)) {
      *out = new at::Tensor(at::linear(*x, *weight, plus));
      return;
    }
    const auto rows = x->reshape({-1, x->size(-1)});
    const bool train = at::GradMode::is_enabled() &&
                       (x->requires_grad() || weight->requires_grad() || (bias && bias->requires_grad()));
    auto shape = x->sizes().vec();
    shape.back() = weight->size(0);
    *out = new at::Tensor((train ? Linear::apply(rows, *weight, plus) : product(rows, *weight, plus)).view(shape));
  });
}

} // extern "C"
