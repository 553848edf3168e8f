#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

// Kernels that stand for an embedding program's own work.
namespace packcast::testing {

// Waits on the device until `*opened`, in memory that the host can write, is at least `needed`; at
// most `limit_ns`.
cudaError_t LaunchGate(const uint32_t* opened, uint32_t needed, uint64_t limit_ns,
                       cudaStream_t stream);
// Spins for `spin_ns`, then copies.
cudaError_t LaunchSlowCopy(const std::byte* from, std::byte* to, uint64_t bytes, uint64_t spin_ns,
                           cudaStream_t stream);
cudaError_t LaunchFill(std::byte* data, uint64_t bytes, std::byte value, cudaStream_t stream);

}  // namespace packcast::testing
