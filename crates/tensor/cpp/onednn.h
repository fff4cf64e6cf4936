// Where to use oneDNN, and its operations by name: libtorch declares them nowhere.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string_view>

namespace {

using Optional = std::optional<at::Tensor>;
using Text = std::optional<std::string_view>;
using Scalars = c10::List<std::optional<at::Scalar>>;

template <typename F> auto operation(const char *name, const char *overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<F>();
}

// Whether to use oneDNN: only on x86, where these operations are tested.
bool with_onednn(const at::Tensor &x) {
#ifdef PORTOLAN_X86
  return at::globalContext().userEnabledMkldnn() && at::hasMKLDNN() && x.is_cpu() && x.scalar_type() == at::kFloat;
#else
  return false;
#endif
}

} // namespace
