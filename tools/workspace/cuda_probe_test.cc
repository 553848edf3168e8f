#include "tools/workspace/cuda_probe.h"

#include <gtest/gtest.h>

#ifdef PACKCAST_HAVE_CUDA

#include <cuda_runtime_api.h>
#include <nccl.h>

namespace packcast {
namespace {

TEST(CudaProbeTest, ToolkitCompilesAKernelAndLinksTheRuntime) {
  const CudaProbe probe = ProbeCuda();
  printf("CUDA %d, runtime %d, NCCL %d\n", probe.toolkit_version, probe.runtime_version,
         NCCL_VERSION_CODE);
  EXPECT_EQ(probe.toolkit_version, CUDART_VERSION);
  EXPECT_EQ(probe.runtime_version, probe.toolkit_version);
  EXPECT_GE(NCCL_VERSION_CODE, 21800);
}

TEST(CudaProbeTest, KernelLoadsWhereThereIsAGpu) {
  int devices = 0;
  const bool has_gpu = cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
  const int error = ProbeCuda().kernel_image_error;
  printf("GPUs: %d, kernel: %s\n", devices, cudaGetErrorName(static_cast<cudaError_t>(error)));
  EXPECT_EQ(error == cudaSuccess, has_gpu);
}

}  // namespace
}  // namespace packcast

#else

namespace packcast {
namespace {

TEST(CudaProbeTest, StubStandsInForTheToolkit) { printf("no CUDA toolkit: stub\n"); }

}  // namespace
}  // namespace packcast

#endif
