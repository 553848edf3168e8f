#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace packcast::testing {

// Pseudo-random bytes on the device, the same for the same seed.
cudaError_t FillRandom(std::byte* data, uint64_t bytes, uint64_t seed, cudaStream_t stream);

}  // namespace packcast::testing
