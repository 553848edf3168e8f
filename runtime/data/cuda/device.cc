#include "runtime/data/cuda/device.h"

#include <map>
#include <mutex>

namespace packcast {
namespace {

class CudaAllocator final : public Allocator {
 public:
  explicit CudaAllocator(int device) : device_(device) {}

  StatusOr<std::byte*> Allocate(uint64_t bytes) override {
    const ScopedDevice scoped(device_);
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, bytes);
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();  // it is not sticky, and must not surface elsewhere
      const StatusOr<uint64_t> free = FreeDeviceMemory(device_);
      return ResourceExhausted("device " + std::to_string(device_) + " has no " +
                               std::to_string(bytes) + " bytes left" +
                               (free.ok() ? "; " + std::to_string(*free) + " are free" : ""));
    }
    PC_RETURN_IF_ERROR(CudaStatus(error, "allocating " + std::to_string(bytes) + " bytes"));
    return static_cast<std::byte*>(data);
  }

  void Free(std::byte* data, uint64_t) override { (void)cudaFree(data); }

  Status Copy(const std::byte* from, std::byte* to, uint64_t bytes) override {
    const ScopedDevice scoped(device_);
    PC_RETURN_IF_ERROR(CudaStatus(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "copying"));
    // From pageable memory it may return before the last bytes are there.
    return CudaStatus(cudaStreamSynchronize(cudaStreamLegacy), "copying");
  }

 private:
  const int device_;
};

}  // namespace

Status CudaStatus(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return OkStatus();
  const std::string text =
      what + ": " + cudaGetErrorString(error) + " (" + std::string(cudaGetErrorName(error)) + ")";
  if (error == cudaErrorMemoryAllocation) return ResourceExhausted(text);
  const bool absent = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver;
  return absent ? Unavailable(text) : Internal(text);
}

// A device that does not exist shows in the next call.
ScopedDevice::ScopedDevice(int device) {
  if (cudaGetDevice(&before_) != cudaSuccess) before_ = -1;
  (void)cudaSetDevice(device);
}

ScopedDevice::~ScopedDevice() {
  if (before_ >= 0) (void)cudaSetDevice(before_);
}

Allocator* DeviceAllocator(int device) {
  static std::mutex mutex;
  static auto* allocators = new std::map<int, std::unique_ptr<CudaAllocator>>;
  std::lock_guard lock(mutex);
  auto& allocator = (*allocators)[device];
  if (allocator == nullptr) allocator = std::make_unique<CudaAllocator>(device);
  return allocator.get();
}

StatusOr<uint64_t> FreeDeviceMemory(int device) {
  const ScopedDevice scoped(device);
  size_t free = 0;
  size_t total = 0;
  PC_RETURN_IF_ERROR(CudaStatus(cudaMemGetInfo(&free, &total), "asking for free memory"));
  return free;
}

}  // namespace packcast
