#include <cstring>

#include "protocol/digest.h"
#include "tests/gpu/fill.h"

namespace packcast::testing {
namespace {

__global__ void Fill(std::byte* data, uint64_t bytes, uint64_t seed) {
  const uint64_t words = (bytes + 7) / 8;
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t k = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; k < words; k += step) {
    const uint64_t word = content_hash::Mix(seed + k * content_hash::kStepA);
    for (uint64_t byte = 8 * k; byte < 8 * k + 8 && byte < bytes; ++byte) {
      data[byte] = static_cast<std::byte>(word >> (8 * (byte - 8 * k)));
    }
  }
}

}  // namespace

cudaError_t FillRandom(std::byte* data, uint64_t bytes, uint64_t seed, cudaStream_t stream) {
  Fill<<<1024, 256, 0, stream>>>(data, bytes, seed);
  return cudaGetLastError();
}

}  // namespace packcast::testing
