// Two GPUs of this machine, a rank on each, joined by NCCL.

#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/data/cuda/device.h"
#include "runtime/data/cuda/nccl_transport.h"
#include "tests/gpu/slow_copy.h"
#include "tests/gpu/world.h"

namespace packcast::testing {
namespace {

// A gate that a failed test leaves closed opens by itself.
constexpr uint64_t kGateLimitNs = 20'000'000'000;

void Check(cudaError_t error) { EXPECT_EQ(error, cudaSuccess) << cudaGetErrorString(error); }

class CudaCallerStream final : public CallerStream {
 public:
  explicit CudaCallerStream(int device) : device_(device) {
    const ScopedDevice scoped(device_);
    Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    void* opened = nullptr;
    Check(cudaHostAlloc(&opened, sizeof(uint32_t), cudaHostAllocMapped | cudaHostAllocPortable));
    opened_ = static_cast<uint32_t*>(opened);
    *opened_ = 0;
    // Each kernel once, with nothing around: a first launch may wait for all of the device.
    std::byte* const bytes = DeviceAllocator(device_)->Allocate(16).value();
    Check(LaunchGate(opened_, 0, 1, stream_));
    Check(LaunchFill(bytes, 16, std::byte{0}, stream_));
    Check(LaunchSlowCopy(bytes, bytes + 8, 8, 1, stream_));
    Synchronize();
    DeviceAllocator(device_)->Free(bytes, 16);
  }

  ~CudaCallerStream() override {
    const ScopedDevice scoped(device_);
    std::atomic_ref(*opened_).store(gates_);
    Synchronize();
    for (cudaEvent_t event : events_) Check(cudaEventDestroy(event));
    Check(cudaStreamDestroy(stream_));
    Check(cudaFreeHost(opened_));
  }

  void AddGate() override {
    const ScopedDevice scoped(device_);
    Check(LaunchGate(opened_, ++gates_, kGateLimitNs, stream_));
  }
  void OpenGate() override { std::atomic_ref(*opened_).fetch_add(1); }
  void SlowCopy(const std::byte* from, std::byte* to, uint64_t bytes, Duration spin) override {
    const ScopedDevice scoped(device_);
    const auto spin_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(spin).count();
    Check(LaunchSlowCopy(from, to, bytes, static_cast<uint64_t>(spin_ns), stream_));
  }
  void Fill(std::byte* data, uint64_t bytes, std::byte value) override {
    const ScopedDevice scoped(device_);
    Check(LaunchFill(data, bytes, value, stream_));
  }
  void* MakeEvent() override {
    const ScopedDevice scoped(device_);
    cudaEvent_t event = nullptr;
    Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    events_.push_back(event);
    return event;
  }
  void Record(void* event) override {
    const ScopedDevice scoped(device_);
    Check(cudaEventRecord(static_cast<cudaEvent_t>(event), stream_));
  }
  void Synchronize() override { Check(cudaStreamSynchronize(stream_)); }

 private:
  const int device_;
  cudaStream_t stream_ = nullptr;
  uint32_t* opened_ = nullptr;  // pinned
  uint32_t gates_ = 0;
  std::vector<cudaEvent_t> events_;
};

class NcclWorld final : public World {
 public:
  explicit NcclWorld(std::array<std::unique_ptr<Transport>, 2> transports)
      : transports_(std::move(transports)) {}

  std::string Describe() const override {
    std::string text = transports_[0]->offer().library;
    for (int device = 0; device < 2; ++device) {
      cudaDeviceProp properties{};
      Check(cudaGetDeviceProperties(&properties, device));
      text += (device == 0 ? " on " : " and ") + std::string(properties.name);
    }
    return text;
  }
  void Enter(uint32_t rank) override { Check(cudaSetDevice(static_cast<int>(rank))); }
  Transport* transport(uint32_t rank) override { return transports_[rank].get(); }
  CopyEngine* engine(uint32_t rank) override { return transports_[rank]->device()->engine; }
  std::unique_ptr<CallerStream> MakeStream(uint32_t rank) override {
    return std::make_unique<CudaCallerStream>(static_cast<int>(rank));
  }

 private:
  const std::array<std::unique_ptr<Transport>, 2> transports_;
};

}  // namespace

StatusOr<std::unique_ptr<World>> MakeWorld() {
  // This process is the tests' own. A gate must hold up its own stream only: with the usual 8
  // queues of a device two streams may share one.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  setenv("NCCL_NVLS_ENABLE", "0", 1);
  setenv("NCCL_SOCKET_IFNAME", "lo", 0);
  int count = 0;
  PC_RETURN_IF_ERROR(CudaStatus(cudaGetDeviceCount(&count), "looking for CUDA devices"));
  if (count < 2) {
    return Unavailable("two CUDA devices are needed, " + std::to_string(count) + " is here");
  }
  const char* library = std::getenv("NCCL_LIBRARY");
  std::array<std::unique_ptr<Transport>, 2> transports;
  for (int device = 0; device < 2; ++device) {
    NcclTransportOptions options;
    options.device = device;
    if (library != nullptr) options.library = library;
    PC_ASSIGN_OR_RETURN(transports[static_cast<size_t>(device)], MakeNcclTransport(options));
  }
  return std::unique_ptr<World>(std::make_unique<NcclWorld>(std::move(transports)));
}

}  // namespace packcast::testing
