// Every file but the loops, in one: most of what compiling them takes is libtorch's headers, read once here.
#include "batch_norm.cpp"
#include "cuda.cpp"
#include "distributed.cpp"
#include "inference.cpp"
#include "portolan.cpp"
