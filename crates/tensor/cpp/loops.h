// The loops of batch norm over rows of channels and of GELU, in float32. build.rs compiles loops.cpp
// once for each instruction set, and `loops` chooses at run time.
#pragma once

#include <cstdint>

struct Loops {
  // The mean of each channel of x [rows, channels], and the sum of squared distances from it.
  void (*moments)(const float *x, int64_t rows, int64_t channels, float *mean, float *squares);
  // y = scale * x + shift (+ other, unless null), then a ReLU if asked for.
  void (*transform)(const float *x, const float *other, bool relu, const float *scale, const float *shift, int64_t rows,
                    int64_t channels, float *y);
  // The sums of g and of g * (x - mean), where g is the gradient before the ReLU with the result y
  // (null without a ReLU).
  void (*sums)(const float *dy, const float *y, const float *x, const float *mean, int64_t rows, int64_t channels,
               float *sum, float *product);
  // dx = a * g + b * (x - mean) + c, with `abc` [3, channels]. g is stored in `behind` unless that
  // is null.
  void (*gradient)(const float *dy, const float *y, const float *x, const float *mean, const float *abc, int64_t rows,
                   int64_t channels, float *dx, float *behind);
  // y = the approximation of GELU with tanh, and its derivative unless that is null.
  void (*gelu)(const float *x, int64_t n, float *y, float *derivative);
};

extern "C" const Loops portolan_loops_any, portolan_loops_avx2, portolan_loops_avx512;

// The loops for this processor.
inline const Loops &loops() {
#ifdef PORTOLAN_X86
  static const Loops &chosen = __builtin_cpu_supports("avx512f")                                ? portolan_loops_avx512
                               : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? portolan_loops_avx2
                                                                                                 : portolan_loops_any;
  return chosen;
#else
  return portolan_loops_any;
#endif
}
