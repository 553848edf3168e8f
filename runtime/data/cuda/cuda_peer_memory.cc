#include "runtime/data/cuda/cuda_peer_memory.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "runtime/data/cuda/device.h"

namespace packcast {
namespace {

constexpr size_t kHandlesKept = 4096;  // of allocations of ours

class CudaPeerMemory final : public PeerMemory {
 public:
  explicit CudaPeerMemory(int device) : device_(device) {}
  ~CudaPeerMemory() override;
  Status Init();

  StatusOr<std::unique_ptr<PeerMemory>> Another() override { return MakeCudaPeerMemory(device_); }
  StatusOr<Place> Find(const std::byte* data, uint64_t bytes) override;
  StatusOr<const std::byte*> Open(const Bytes& handle) override;
  void Close(const std::byte* data) override;
  Status Copy(const std::byte* from, std::byte* to, uint64_t bytes) override;
  Status Mark() override;
  StatusOr<uint64_t> Passed() override;
  Status Drain(Duration timeout) override;

 private:
  using GetAttributes = decltype(&::cuPointerGetAttributes);

  StatusOr<Bytes> HandleOf(uint64_t serial, CUdeviceptr begin);
  Status Fail(Status status);

  const int device_;
  GetAttributes get_attributes_ = nullptr;
  cudaStream_t stream_ = nullptr;
  std::map<uint64_t, Bytes> handles_;  // by serial
  std::deque<cudaEvent_t> marks_;      // not passed
  std::vector<cudaEvent_t> events_;    // not in use
  uint64_t passed_ = 0;
  Status error_;
};

CudaPeerMemory::~CudaPeerMemory() {
  const ScopedDevice scoped(device_);
  for (cudaEvent_t event : marks_) (void)cudaEventDestroy(event);
  for (cudaEvent_t event : events_) (void)cudaEventDestroy(event);
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}

Status CudaPeerMemory::Fail(Status status) {
  if (error_.ok()) error_ = std::move(status);
  return error_;
}

Status CudaPeerMemory::Init() {
  const ScopedDevice scoped(device_);
  PC_RETURN_IF_ERROR(CudaStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                                "making a stream for peer copies"));
  get_attributes_ = reinterpret_cast<GetAttributes>(FindDriverFunction("cuPointerGetAttributes"));
  if (get_attributes_ == nullptr) {
    return Unavailable("this CUDA driver has no cuPointerGetAttributes");
  }
  return OkStatus();
}

StatusOr<PeerMemory::Place> CudaPeerMemory::Find(const std::byte* data, uint64_t bytes) {
  const ScopedDevice scoped(device_);
  const auto address = reinterpret_cast<CUdeviceptr>(data);
  CUdeviceptr begin = 0;
  size_t size = 0;
  unsigned long long serial = 0;  // NOLINT: CUDA's type
  CUpointer_attribute names[] = {CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
                                 CU_POINTER_ATTRIBUTE_RANGE_SIZE, CU_POINTER_ATTRIBUTE_BUFFER_ID};
  void* values[] = {&begin, &size, &serial};
  const CUresult result = get_attributes_(3, names, values, address);
  if (result != CUDA_SUCCESS || begin == 0 || serial == 0 || address < begin ||
      address - begin > size || bytes > size - (address - begin)) {
    return InvalidArgument(std::to_string(bytes) +
                           " bytes that a peer is to read are not in one allocation of device " +
                           std::to_string(device_));
  }
  PC_ASSIGN_OR_RETURN(Bytes handle, HandleOf(serial, begin));
  return Place{serial, size, std::move(handle), address - begin};
}

StatusOr<Bytes> CudaPeerMemory::HandleOf(uint64_t serial, CUdeviceptr begin) {
  if (handles_.size() > kHandlesKept) handles_.clear();
  Bytes& known = handles_[serial];
  if (!known.empty()) return known;
  cudaIpcMemHandle_t handle;
  const cudaError_t error = cudaIpcGetMemHandle(&handle, reinterpret_cast<void*>(begin));
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    handles_.erase(serial);
    return InvalidArgument(
        "this memory cannot be shared with other processes (" +
        std::string(cudaGetErrorName(error)) +
        "): take it from cudaMalloc (PyTorch: without expandable segments), or send no rows "
        "direct");
  }
  const auto* text = reinterpret_cast<const std::byte*>(&handle);
  known.assign(text, text + sizeof handle);
  return known;
}

StatusOr<const std::byte*> CudaPeerMemory::Open(const Bytes& handle) {
  cudaIpcMemHandle_t ipc;
  if (handle.size() != sizeof ipc) return Internal("the handle of a peer's memory is malformed");
  std::memcpy(&ipc, handle.data(), sizeof ipc);
  const ScopedDevice scoped(device_);
  void* data = nullptr;
  const cudaError_t error = cudaIpcOpenMemHandle(&data, ipc, cudaIpcMemLazyEnablePeerAccess);
  if (error == cudaSuccess) return static_cast<const std::byte*>(data);
  (void)cudaGetLastError();
  const std::string text = "device " + std::to_string(device_) +
                           " cannot read the memory of another's (" + cudaGetErrorName(error) +
                           "); without peer access weights go over NCCL";
  const bool never = error == cudaErrorPeerAccessUnsupported || error == cudaErrorNotSupported;
  return never ? Unimplemented(text) : Unavailable(text);
}

void CudaPeerMemory::Close(const std::byte* data) {
  const ScopedDevice scoped(device_);
  (void)cudaIpcCloseMemHandle(const_cast<std::byte*>(data));
}

Status CudaPeerMemory::Copy(const std::byte* from, std::byte* to, uint64_t bytes) {
  PC_RETURN_IF_ERROR(error_);
  const ScopedDevice scoped(device_);
  const Status status =
      CudaStatus(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_), "a peer copy");
  return status.ok() ? status : Fail(status);
}

Status CudaPeerMemory::Mark() {
  PC_RETURN_IF_ERROR(error_);
  const ScopedDevice scoped(device_);
  cudaEvent_t event = nullptr;
  if (!events_.empty()) {
    event = events_.back();
    events_.pop_back();
  } else {
    PC_RETURN_IF_ERROR(CudaStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming),
                                  "making an event for peer copies"));
  }
  marks_.push_back(event);
  const Status status = CudaStatus(cudaEventRecord(event, stream_), "marking peer copies");
  return status.ok() ? status : Fail(status);
}

StatusOr<uint64_t> CudaPeerMemory::Passed() {
  PC_RETURN_IF_ERROR(error_);
  while (!marks_.empty()) {
    const cudaError_t state = cudaEventQuery(marks_.front());
    if (state == cudaErrorNotReady) break;
    if (state != cudaSuccess) return Fail(CudaStatus(state, "copying from a peer's device"));
    events_.push_back(marks_.front());
    marks_.pop_front();
    ++passed_;
  }
  return passed_;
}

Status CudaPeerMemory::Drain(Duration timeout) {
  return DrainStream(device_, stream_, timeout, "copying from a peer's device");
}

}  // namespace

StatusOr<std::unique_ptr<PeerMemory>> MakeCudaPeerMemory(int device) {
  auto memory = std::make_unique<CudaPeerMemory>(device);
  PC_RETURN_IF_ERROR(memory->Init());
  return std::unique_ptr<PeerMemory>(std::move(memory));
}

}  // namespace packcast
