#include "tests/gpu/bare_communicator.h"

#include <nccl.h>

#include <charconv>
#include <cstddef>
#include <thread>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/data/cuda/device.h"
#include "runtime/data/cuda/nccl_id.h"
#include "runtime/data/cuda/nccl_library.h"

namespace packcast::trial {
namespace {

constexpr Duration kDeadline = Seconds(30);
// One for each of NCCL's protocols, and one as large as a buffer.
constexpr uint64_t kBytes[] = {1024, uint64_t{64} << 10, uint64_t{4} << 20, uint64_t{64} << 20};
constexpr uint64_t kLargest = uint64_t{64} << 20;

}  // namespace

class BareCommunicator::Impl {
 public:
  Impl(const NcclLibrary* library, int device) : library_(library), device_(device) {}
  ~Impl() {
    if (comm_ != nullptr) (void)library_->abort(comm_);
    if (data_ != nullptr) (void)cudaFree(data_);
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  }

  Status Allocate() {
    PC_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(device_), "choosing the device"));
    PC_RETURN_IF_ERROR(
        CudaStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream"));
    return CudaStatus(cudaMalloc(&data_, kLargest), "memory to broadcast");
  }

  Status Connect(const ncclUniqueId& id, int rank) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    PC_RETURN_IF_ERROR(NcclStatus(*library_, library_->init_rank(&comm_, 2, id, rank, &config),
                                  comm_, "connecting"));
    return Settle();
  }

  Status Broadcast(uint64_t bytes) {
    PC_RETURN_IF_ERROR(NcclStatus(
        *library_, library_->broadcast(data_, data_, bytes, ncclUint8, 0, comm_, stream_), comm_,
        "broadcasting"));
    PC_RETURN_IF_ERROR(Settle());
    cudaError_t state = cudaStreamQuery(stream_);
    for (; state == cudaErrorNotReady && Now() < end_; state = cudaStreamQuery(stream_)) {
      std::this_thread::yield();
    }
    if (state == cudaErrorNotReady) return DeadlineExceeded("a bare broadcast did not end");
    return CudaStatus(state, "broadcasting");
  }

  Status Abort() {
    return NcclStatus(*library_, library_->abort(std::exchange(comm_, nullptr)), nullptr,
                      "aborting");
  }

 private:
  // Until NCCL has taken the last call in.
  Status Settle() {
    ncclResult_t state = ncclInProgress;
    while (state == ncclInProgress) {
      PC_RETURN_IF_ERROR(NcclStatus(*library_, library_->async_error(comm_, &state), comm_,
                                    "asking for its state"));
      if (state == ncclInProgress && Now() >= end_) {
        return DeadlineExceeded("a bare communicator did not come up");
      }
      std::this_thread::yield();
    }
    return NcclStatus(*library_, state, comm_, "a bare communicator");
  }

  const NcclLibrary* const library_;
  const int device_;
  const Time end_ = Now() + kDeadline;
  ncclComm_t comm_ = nullptr;
  cudaStream_t stream_ = nullptr;
  void* data_ = nullptr;
};

namespace {

StatusOr<ncclUniqueId> IdFromText(const std::string& text) {
  ncclUniqueId id;
  if (text.size() != 2 * sizeof id.internal) return InvalidArgument("not a unique ID");
  for (size_t k = 0; k < sizeof id.internal; ++k) {
    uint8_t byte = 0;
    const char* const at = text.data() + 2 * k;
    const auto parsed = std::from_chars(at, at + 2, byte, 16);
    if (parsed.ec != std::errc() || parsed.ptr != at + 2) {
      return InvalidArgument("not a unique ID");
    }
    id.internal[k] = static_cast<char>(byte);
  }
  return id;
}

}  // namespace

StatusOr<uint64_t> UsedDeviceMemory(int device) {
  const ScopedDevice scoped(device);
  size_t free = 0;
  size_t total = 0;
  PC_RETURN_IF_ERROR(CudaStatus(cudaMemGetInfo(&free, &total), "asking for free memory"));
  return total - free;
}

StatusOr<BareId> MakeBareId(const std::string& library) {
  PC_ASSIGN_OR_RETURN(std::unique_ptr<NcclId> id,
                      NcclId::Make(FindNcclIdHelper(), library, Seconds(20)));
  constexpr char kDigits[] = "0123456789abcdef";
  BareId made;
  for (const char byte : id->id().internal) {
    made.text += kDigits[static_cast<uint8_t>(byte) >> 4];
    made.text += kDigits[static_cast<uint8_t>(byte) & 15];
  }
  made.helper = std::move(id);
  return made;
}

BareCommunicator::BareCommunicator(std::string library, int device)
    : library_(std::move(library)), device_(device) {}
BareCommunicator::~BareCommunicator() = default;

Status BareCommunicator::Up(const std::string& id_text, int rank) {
  PC_ASSIGN_OR_RETURN(const NcclLibrary* const nccl, LoadNccl(library_));
  PC_ASSIGN_OR_RETURN(const ncclUniqueId id, IdFromText(id_text));
  PC_ASSIGN_OR_RETURN(use_.before, UsedDeviceMemory(device_));
  impl_ = std::make_unique<Impl>(nccl, device_);
  PC_RETURN_IF_ERROR(impl_->Allocate());
  PC_RETURN_IF_ERROR(impl_->Connect(id, rank));
  PC_ASSIGN_OR_RETURN(use_.connected, UsedDeviceMemory(device_));
  for (const uint64_t bytes : kBytes) PC_RETURN_IF_ERROR(impl_->Broadcast(bytes));
  PC_ASSIGN_OR_RETURN(use_.warm, UsedDeviceMemory(device_));
  use_.connected -= kLargest;
  use_.warm -= kLargest;
  return OkStatus();
}

StatusOr<BareUse> BareCommunicator::Down() {
  if (impl_ == nullptr) return FailedPrecondition("no communicator is up");
  const Status aborted = impl_->Abort();
  impl_.reset();
  PC_RETURN_IF_ERROR(aborted);
  PC_ASSIGN_OR_RETURN(use_.after, UsedDeviceMemory(device_));
  return use_;
}

}  // namespace packcast::trial
