// Convolutions of frozen networks, with weights that are converted to oneDNN's layout once, and
// fused with the addition and the ReLU that follow them.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "guarded.h"
#include "onednn.h"

extern "C" {

// out = the weight of a convolution in oneDNN's layout for images of the shape of x; the weight
// itself where oneDNN is not used.
const char *portolan_packed_convolution(at::Tensor *weight, at::Tensor *x, int64_t stride, int64_t padding,
                                        at::Tensor **out) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    *out = new at::Tensor(with_onednn(*x)
                              ? at::mkldnn_reorder_conv2d_weight(weight->to_mkldnn(), {padding, padding},
                                                                 {stride, stride}, {1, 1}, 1, x->sizes())
                              : *weight);
  });
}

// out = convolution of x, plus bias, plus `add` unless that is null, then a ReLU if asked for.
// `add` may be overwritten, and may itself be returned.
const char *portolan_convolution(at::Tensor *x, at::Tensor *weight, at::Tensor *bias, int64_t stride, int64_t padding,
                                 at::Tensor *add, bool relu, at::Tensor **out) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    const int64_t strides[] = {stride, stride}, pads[] = {padding, padding}, ones[] = {1, 1};
    if (!weight->is_mkldnn()) {
      auto y = at::conv2d(*x, *weight, *bias, strides, pads, ones, 1);
      if (add)
        y.add_(*add);
      *out = new at::Tensor(relu ? y.relu_() : y);
    } else if (!add) {
      static auto convolution =
          operation<at::Tensor(const at::Tensor &, const at::Tensor &, const Optional &, at::IntArrayRef,
                               at::IntArrayRef, at::IntArrayRef, int64_t, std::string_view, Scalars, Text)>(
              "mkldnn::_convolution_pointwise", "");
      *out = new at::Tensor(convolution.call(*x, *weight, *bias, pads, strides, ones, 1, relu ? "relu" : "none",
                                             Scalars(), std::nullopt));
    } else {
      static auto convolution =
          operation<at::Tensor &(at::Tensor &, const at::Tensor &, const at::Tensor &, const Optional &,
                                 at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t, std::string_view,
                                 std::optional<at::Scalar>, Text, Scalars, Text)>(
              "mkldnn::_convolution_pointwise_", "binary");
      *out = new at::Tensor(convolution.call(*add, *x, *weight, *bias, pads, strides, ones, 1, "add", std::nullopt,
                                             relu ? Text("relu") : std::nullopt, Scalars(), std::nullopt));
    }
  });
}

} // extern "C"
