// The loops of batch normalization over rows of channels, float32. build.rs compiles loops.cpp once for each instruction
// set; batch_norm.cpp takes what the processor has.
#pragma once

#include <cstdint>

struct Loops {
  // The mean of each channel of x [rows, channels], and the sum of squared distances from it.
  void (*moments)(const float *x, int64_t rows, int64_t channels, float *mean, float *squares);
  // y = scale * x + shift (+ other, unless null), then ReLU if that is asked for.
  void (*transform)(const float *x, const float *other, bool relu, const float *scale, const float *shift, int64_t rows,
                    int64_t channels, float *y);
  // With g the gradient behind the ReLU, of which y came out (null without one): the sums of g and of g * (x - mean).
  void (*sums)(const float *dy, const float *y, const float *x, const float *mean, int64_t rows, int64_t channels,
               float *sum, float *product);
  // dx = a * g + b * (x - mean) + c with `abc` [3, channels]; g goes to `behind` unless that is null.
  void (*gradient)(const float *dy, const float *y, const float *x, const float *mean, const float *abc, int64_t rows,
                   int64_t channels, float *dx, float *behind);
};

extern "C" const Loops portolan_loops_any, portolan_loops_avx2, portolan_loops_avx512;
