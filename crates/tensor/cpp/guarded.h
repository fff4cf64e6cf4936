// Helpers: exceptions as messages, since none may cross into Rust, and lists of tensors from Rust.
#pragma once

#include <ATen/ATen.h>

#include <cstring>
#include <stdexcept>
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

} // namespace
