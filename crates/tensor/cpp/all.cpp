// All files but the loops in one translation unit: most of the compile time is libtorch's headers.
#include "batch_norm.cpp"
#include "cuda.cpp"
#include "distributed.cpp"
#include "gelu.cpp"
#include "inference.cpp"
#include "linear.cpp"
#include "portolan.cpp"
