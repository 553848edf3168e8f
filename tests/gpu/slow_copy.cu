#include "tests/gpu/slow_copy.h"

namespace packcast::testing {
namespace {

// Few blocks: room for packcast's kernels and NCCL's beside them.
constexpr uint32_t kBlocks = 16;
constexpr uint32_t kThreads = 256;

__device__ uint64_t Nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

__global__ void Gate(const volatile uint32_t* opened, uint32_t needed, uint64_t limit_ns) {
  const uint64_t begin = Nanoseconds();
  while (*opened < needed && Nanoseconds() - begin < limit_ns) __nanosleep(1000);
}

__global__ void SlowCopy(const std::byte* from, std::byte* to, uint64_t bytes, uint64_t spin_ns) {
  const uint64_t begin = Nanoseconds();
  while (Nanoseconds() - begin < spin_ns) __nanosleep(1000);
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t k = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; k < bytes; k += step) {
    to[k] = from[k];
  }
}

__global__ void Fill(std::byte* data, uint64_t bytes, std::byte value) {
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t k = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; k < bytes; k += step) {
    data[k] = value;
  }
}

}  // namespace

cudaError_t LaunchGate(const uint32_t* opened, uint32_t needed, uint64_t limit_ns,
                       cudaStream_t stream) {
  Gate<<<1, 1, 0, stream>>>(opened, needed, limit_ns);
  return cudaGetLastError();
}

cudaError_t LaunchSlowCopy(const std::byte* from, std::byte* to, uint64_t bytes, uint64_t spin_ns,
                           cudaStream_t stream) {
  SlowCopy<<<kBlocks, kThreads, 0, stream>>>(from, to, bytes, spin_ns);
  return cudaGetLastError();
}

cudaError_t LaunchFill(std::byte* data, uint64_t bytes, std::byte value, cudaStream_t stream) {
  Fill<<<kBlocks, kThreads, 0, stream>>>(data, bytes, value);
  return cudaGetLastError();
}

}  // namespace packcast::testing
