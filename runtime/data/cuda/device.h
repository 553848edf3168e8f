#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>

#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/buffer_ring.h"
#include "runtime/data/copy_engine.h"

namespace packcast {

// OK, or kInternal (kResourceExhausted for memory) with `what` and the runtime's words.
Status CudaStatus(cudaError_t error, const std::string& what);

// A function of the driver by its name, as CUDA 7 has it; null when there is none. Found at run
// time: a program with CUDA's runtime does not link the driver.
void* FindDriverFunction(const char* name);

// Makes a device the thread's for a while: callers keep the one that they chose.
class ScopedDevice {
 public:
  explicit ScopedDevice(int device);
  ~ScopedDevice();
  ScopedDevice(const ScopedDevice&) = delete;
  ScopedDevice& operator=(const ScopedDevice&) = delete;

 private:
  const bool pushed_;
};

// Waits until nothing is left on a stream of `device`. kDeadlineExceeded with `what` after
// `timeout`. Any thread.
Status DrainStream(int device, cudaStream_t stream, Duration timeout, const std::string& what);

// Memory of one device by cudaMalloc, in whole pages of 2 MiB: what is shared with peers by its
// handle is nobody else's then. What NCCL and peers can reach. Thread-safe; lives for ever.
Allocator* DeviceAllocator(int device);

// Bytes of the device that cudaMalloc could still give.
StatusOr<uint64_t> FreeDeviceMemory(int device);

struct CudaCopyOptions {
  int device = 0;
  // Of 512 threads each. More take multiprocessors from NCCL, fewer do not keep up with it
  // (docs/performance.md).
  uint32_t blocks = 32;
};

// A copy engine on a stream of its own, with all memory allocated (about 5 MiB of the device's) and
// kernels loaded now. Events given to Submit are cudaEvent_t. Errors: CudaStatus.
StatusOr<std::unique_ptr<CopyEngine>> MakeCudaCopyEngine(const CudaCopyOptions& options);

}  // namespace packcast
