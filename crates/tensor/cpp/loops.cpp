// The loops of loops.h, under the name LOOPS, for the instruction set for which build.rs compiles
// them.

#include "loops.h"

#include <cstring>

namespace {

// Sixteen channels at once, in as many registers as the processor needs.
using Lanes = float __attribute__((vector_size(64)));
constexpr int64_t WIDTH = sizeof(Lanes) / sizeof(float);

template <typename T> inline __attribute__((always_inline)) T load(const float *from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}
template <typename T> inline __attribute__((always_inline)) void store(float *to, T value) {
  std::memcpy(to, &value, sizeof(T));
}

// Calls `body(kind, channel)` with Lanes for every sixteen channels, and with float for each
// remaining one.
template <typename F> inline __attribute__((always_inline)) void over_channels(int64_t channels, F &&body) {
  int64_t channel = 0;
  for (; channel + WIDTH <= channels; channel += WIDTH)
    body(Lanes(), channel);
  for (; channel < channels; ++channel)
    body(float(), channel);
}

void moments(const float *x, int64_t rows, int64_t channels, float *mean, float *squares) {
  over_channels(channels, [&](auto kind, int64_t channel) __attribute__((always_inline)) {
    using T = decltype(kind);
    T sum = {}, square = {};
    for (int64_t r = 0; r < rows; ++r)
      sum += load<T>(x + r * channels + channel);
    sum /= float(rows);
    for (int64_t r = 0; r < rows; ++r) {
      T d = load<T>(x + r * channels + channel) - sum;
      square += d * d;
    }
    store(mean + channel, sum);
    store(squares + channel, square);
  });
}

void transform(const float *x, const float *other, bool relu, const float *scale, const float *shift,
               int64_t rows, int64_t channels, float *y) {
  over_channels(channels, [&](auto kind, int64_t channel) __attribute__((always_inline)) {
    using T = decltype(kind);
    T a = load<T>(scale + channel), b = load<T>(shift + channel);
    for (int64_t r = 0; r < rows; ++r) {
      int64_t at = r * channels + channel;
      T v = a * load<T>(x + at) + b;
      if (other)
        v += load<T>(other + at);
      store<T>(y + at, relu ? (v < 0 ? T{} : v) : v); // a NaN stays one
    }
  });
}

// The gradient before the ReLU with the result y (null without a ReLU).
template <typename T> inline __attribute__((always_inline)) T masked(const float *dy, const float *y, int64_t at) {
  T g = load<T>(dy + at);
  return y ? (load<T>(y + at) <= 0 ? T{} : g) : g;
}

void sums(const float *dy, const float *y, const float *x, const float *mean, int64_t rows,
                             int64_t channels, float *sum, float *product) {
  over_channels(channels, [&](auto kind, int64_t channel) __attribute__((always_inline)) {
    using T = decltype(kind);
    T m = load<T>(mean + channel), s = {}, p = {};
    for (int64_t r = 0; r < rows; ++r) {
      int64_t at = r * channels + channel;
      T g = masked<T>(dy, y, at);
      s += g;
      p += g * (load<T>(x + at) - m);
    }
    store(sum + channel, s);
    store(product + channel, p);
  });
}

void gradient(const float *dy, const float *y, const float *x, const float *mean, const float *abc,
                                 int64_t rows, int64_t channels, float *dx, float *behind) {
  over_channels(channels, [&](auto kind, int64_t channel) __attribute__((always_inline)) {
    using T = decltype(kind);
    T m = load<T>(mean + channel), a = load<T>(abc + channel);
    T b = load<T>(abc + channels + channel), c = load<T>(abc + 2 * channels + channel);
    for (int64_t r = 0; r < rows; ++r) {
      int64_t at = r * channels + channel;
      T g = masked<T>(dy, y, at);
      if (behind)
        store(behind + at, g);
      store<T>(dx + at, a * g + b * (load<T>(x + at) - m) + c);
    }
  });
}

} // namespace

extern "C" const Loops LOOPS = {moments, transform, sums, gradient};
