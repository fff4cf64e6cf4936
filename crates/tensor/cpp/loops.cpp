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

using Ints = int32_t __attribute__((vector_size(64)));

// exp(v) within two units in the last place. v is cut off at ±87, where a float nearly ends. A NaN
// stays one.
inline __attribute__((always_inline)) Lanes exponential(Lanes v) {
  v = v < -87.0f ? Lanes{} - 87.0f : v;
  v = v > 87.0f ? Lanes{} + 87.0f : v;
  // v = k ln 2 + r, with k a whole number: adding 1.5 * 2^23 rounds, since a float has 24 bits.
  constexpr float ROUND = 12582912.0f;
  Lanes k = (v * 1.44269504f + ROUND) - ROUND;
  Lanes r = (v - k * 0.693359375f) + k * 2.12194440e-4f; // ln 2 in two parts
  // exp(r) by its series, with Cephes' coefficients (expf).
  Lanes p = Lanes{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  Ints power = (__builtin_convertvector(k, Ints) + 127) << 23; // the bits of 2^k
  return p * load<Lanes>(reinterpret_cast<const float *>(&power));
}

// x * (1 + tanh(u)) / 2 = x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3), and its derivative.
inline __attribute__((always_inline)) void gelu_of_tanh(Lanes x, Lanes &y, Lanes &derivative) {
  constexpr float TWICE = 1.59576912f; // 2 sqrt(2 / pi)
  Lanes square = x * x;
  Lanes e = exponential(-TWICE * x * (1.0f + 0.044715f * square));
  Lanes s = 1.0f / (1.0f + e);
  y = x * s;
  derivative = s + y * (e * s) * TWICE * (1.0f + 0.134145f * square); // 1 - s = e * s, without cancellation
}

void gelu(const float *x, int64_t n, float *y, float *derivative) {
  auto block = [](const float *x, float *y, float *derivative) __attribute__((always_inline)) {
    Lanes value, slope;
    gelu_of_tanh(load<Lanes>(x), value, slope);
    store(y, value);
    if (derivative)
      store(derivative, slope);
  };
  int64_t i = 0;
  for (; i + WIDTH <= n; i += WIDTH)
    block(x + i, y + i, derivative ? derivative + i : nullptr);
  if (i == n)
    return;
  float rest[3][WIDTH] = {};
  size_t bytes = (n - i) * sizeof(float);
  std::memcpy(rest[0], x + i, bytes);
  block(rest[0], rest[1], rest[2]);
  std::memcpy(y + i, rest[1], bytes);
  if (derivative)
    std::memcpy(derivative + i, rest[2], bytes);
}

} // namespace

extern "C" const Loops LOOPS = {moments, transform, sums, gradient, gelu};
