#include "runtime/data/cuda/device.h"

#include <cuda.h>

#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "runtime/base/clock.h"

namespace packcast {
namespace {

// The driver's calls that make a context a thread's and undo that.
class Contexts {
 public:
  Contexts() {
    Find("cuDeviceGet", &device_get_);
    Find("cuDevicePrimaryCtxRetain", &retain_);
    Find("cuCtxPushCurrent", &push_);
    Find("cuCtxPopCurrent", &pop_);
  }

  // False where it cannot be done; the device's next call says why.
  bool Push(int device) {
    const CUcontext context = Of(device);
    return context != nullptr && push_(context) == CUDA_SUCCESS;
  }
  void Pop() {
    CUcontext popped = nullptr;
    (void)pop_(&popped);
  }

 private:
  template <class Function>
  static void Find(const char* name, Function* function) {
    *function = reinterpret_cast<Function>(FindDriverFunction(name));
  }

  // The device's primary context, which the runtime uses too; kept for ever.
  CUcontext Of(int device) {
    std::lock_guard lock(mutex_);
    const auto known = contexts_.find(device);
    if (known != contexts_.end()) return known->second;
    if (!device_get_ || !retain_ || !push_ || !pop_) return nullptr;
    CUdevice handle = 0;
    CUcontext context = nullptr;
    if (device_get_(&handle, device) != CUDA_SUCCESS) return nullptr;
    if (retain_(&context, handle) != CUDA_SUCCESS) return nullptr;
    return contexts_[device] = context;
  }

  decltype(&::cuDeviceGet) device_get_ = nullptr;
  decltype(&::cuDevicePrimaryCtxRetain) retain_ = nullptr;
  decltype(&::cuCtxPushCurrent) push_ = nullptr;
  decltype(&::cuCtxPopCurrent) pop_ = nullptr;
  std::mutex mutex_;
  std::map<int, CUcontext> contexts_;
};

Contexts& TheContexts() {
  static auto* contexts = new Contexts;
  return *contexts;
}

class CudaAllocator final : public Allocator {
 public:
  explicit CudaAllocator(int device) : device_(device) {}

  StatusOr<std::byte*> Allocate(uint64_t bytes) override {
    const ScopedDevice scoped(device_);
    constexpr uint64_t kPage = uint64_t{2} << 20;
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, (bytes + kPage - 1) / kPage * kPage);
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

  void Free(std::byte* data, uint64_t) override {
    const ScopedDevice scoped(device_);
    (void)cudaFree(data);
  }
  uint64_t FreeBytes() const override {
    const StatusOr<uint64_t> free = FreeDeviceMemory(device_);
    return free.ok() ? *free : 0;
  }

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

void* FindDriverFunction(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  constexpr unsigned kSince = 7000;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &found, kSince, cudaEnableDefault, &result);
  return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? found : nullptr;
}

Status CudaStatus(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return OkStatus();
  const std::string text =
      what + ": " + cudaGetErrorString(error) + " (" + std::string(cudaGetErrorName(error)) + ")";
  if (error == cudaErrorMemoryAllocation) return ResourceExhausted(text);
  const bool absent = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver;
  return absent ? Unavailable(text) : Internal(text);
}

// Not by cudaSetDevice: to choose the device of before again, which a thread that never chose has
// as device 0, would make a context there, with half a gigabyte of somebody else's memory.
ScopedDevice::ScopedDevice(int device) : pushed_(TheContexts().Push(device)) {
  // A device that does not exist shows in the next call.
  if (!pushed_) (void)cudaSetDevice(device);
}

ScopedDevice::~ScopedDevice() {
  if (pushed_) TheContexts().Pop();
}

Status DrainStream(int device, cudaStream_t stream, Duration timeout, const std::string& what) {
  const ScopedDevice scoped(device);
  const Time end = Now() + timeout;
  cudaError_t state = cudaStreamQuery(stream);
  while (state == cudaErrorNotReady && Now() < end) {
    std::this_thread::yield();
    state = cudaStreamQuery(stream);
  }
  if (state != cudaErrorNotReady) return CudaStatus(state, what);
  return DeadlineExceeded(what + " on device " + std::to_string(device) + " did not end in " +
                          std::to_string(ToMilliseconds(timeout)) + " ms");
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
