#pragma once

namespace packcast {

// What the kernel image of this build says of itself. Needs a toolkit, but no GPU.
struct CudaProbe {
  int toolkit_version;     // CUDART_VERSION that nvcc saw, e.g. 13000
  int runtime_version;     // of the runtime that was linked
  int kernel_image_error;  // cudaError_t of looking up the kernel
};

CudaProbe ProbeCuda();

}  // namespace packcast
