#include <cuda_runtime.h>

#include "tools/workspace/cuda_probe.h"

namespace packcast {
namespace {

__global__ void Increment(int* value) { *value += 1; }

}  // namespace

CudaProbe ProbeCuda() {
  CudaProbe probe{};
  probe.toolkit_version = CUDART_VERSION;
  cudaRuntimeGetVersion(&probe.runtime_version);
  cudaFuncAttributes attributes;
  probe.kernel_image_error = cudaFuncGetAttributes(&attributes, Increment);
  return probe;
}

}  // namespace packcast
