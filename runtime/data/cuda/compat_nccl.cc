#include "runtime/data/cuda/compat_nccl.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/data/cuda/device.h"
#include "runtime/data/cuda/nccl_id.h"
#include "runtime/data/cuda/nccl_library.h"
#include "runtime/data/cuda/nccl_wire.h"
#include "runtime/data/silent_collective.h"

namespace packcast {
namespace {

using AllReduce = decltype(&::ncclAllReduce);

// What a communicator does instead of the warm-up broadcasts of NcclWire, which no other rank
// would take part in: what its peers do, once, or nothing.
struct WarmUp {
  AllReduce all_reduce = nullptr;
  bool done = false;
};

// The warm-up of the wire that comes up on this thread right now.
thread_local WarmUp* warming = nullptr;
// The functions behind those of CompatLibrary. Set once, before any wire is made of them.
const NcclLibrary* real = nullptr;

ncclResult_t BroadcastUnlessWarming(const void* from, void* to, size_t count, ncclDataType_t type,
                                    int root, ncclComm_t comm, cudaStream_t stream) {
  if (warming == nullptr) return real->broadcast(from, to, count, type, root, comm, stream);
  const bool is_over = std::exchange(warming->done, true);
  if (is_over || warming->all_reduce == nullptr) return ncclSuccess;
  if (cudaMemsetAsync(to, 0, sizeof(float), stream) != cudaSuccess) return ncclUnhandledCudaError;
  return warming->all_reduce(to, to, 1, ncclFloat32, ncclSum, comm, stream);
}

// NCCL, but for what wires do to warm up.
StatusOr<const NcclLibrary*> CompatLibrary(const std::string& path) {
  PC_ASSIGN_OR_RETURN(const NcclLibrary* loaded, LoadNccl(path));
  // LoadNccl gives the same library each time.
  static const NcclLibrary* const compat = [loaded] {
    real = loaded;
    auto* copy = new NcclLibrary(*loaded);
    copy->broadcast = &BroadcastUnlessWarming;
    return copy;
  }();
  return compat;
}

// Of the library that is loaded, wherever it came from.
Status FindAllReduce(const NcclLibrary& library, AllReduce* function) {
  Dl_info info{};
  void* handle = nullptr;
  if (dladdr(reinterpret_cast<void*>(library.async_error), &info) != 0) {
    handle = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  }
  void* const found = handle == nullptr ? nullptr : dlsym(handle, "ncclAllReduce");
  if (found == nullptr) return Unavailable("this libnccl lacks ncclAllReduce");
  *function = reinterpret_cast<AllReduce>(found);
  return OkStatus();
}

// An NcclWire that warms up as its peers do.
class CompatWire final : public Wire {
 public:
  CompatWire(std::unique_ptr<Wire> wire, WarmUp warm_up)
      : wire_(std::move(wire)), warm_up_(warm_up) {}

  StatusOr<bool> Up() override {
    warming = &warm_up_;
    StatusOr<bool> up = wire_->Up();
    warming = nullptr;
    is_up_ = up.ok() && *up;
    return up;
  }
  Status Launch(const Operation& operation) override {
    // It would be taken for a warm-up.
    if (!is_up_) return FailedPrecondition("not all ranks are connected yet");
    return wire_->Launch(operation);
  }
  StatusOr<uint64_t> Completed() override { return wire_->Completed(); }
  Status Abort() override { return wire_->Abort(); }
  void BeginAbort() override { wire_->BeginAbort(); }

 private:
  const std::unique_ptr<Wire> wire_;
  WarmUp warm_up_;
  bool is_up_ = false;
};

}  // namespace

StatusOr<CompatId> MakeCompatId(const NcclTransportOptions& options) {
  const std::string helper = options.id_helper.empty() ? FindNcclIdHelper() : options.id_helper;
  PC_ASSIGN_OR_RETURN(std::shared_ptr<const NcclId> made,
                      NcclId::Make(helper, options.library, options.id_timeout));
  CompatId id;
  static_assert(sizeof(ncclUniqueId) == sizeof id.bytes);
  std::memcpy(id.bytes.data(), made->id().internal, id.bytes.size());
  id.maker = std::move(made);
  return id;
}

StatusOr<CompatEnd> JoinCompat(const NcclTransportOptions& options, std::span<const std::byte> id,
                               const CompatJoin& join) {
  ncclUniqueId unique;
  if (id.size() != sizeof unique) {
    return InvalidArgument("NCCL's unique ID has " + std::to_string(sizeof unique) +
                           " bytes, this one has " + std::to_string(id.size()));
  }
  std::memcpy(unique.internal, id.data(), sizeof unique);
  const JoinOptions ranks{
      .rendezvous = {"nccl", {}},
      .rank = join.rank,
      .size = join.size,
      .root = join.root,
      .names = join.names,
      .deadline = join.deadline,
      .cta_count_max = static_cast<uint32_t>(std::max(options.cta_count_max, 0))};
  PC_RETURN_IF_ERROR(CheckJoin(ranks, "nccl"));
  PC_RETURN_IF_ERROR(DeviceMemory(options.device).status());
  PC_ASSIGN_OR_RETURN(const NcclLibrary* library, CompatLibrary(options.library));
  WarmUp warm_up;
  switch (join.warm_up) {
    case CompatWarmUp::kNone: break;
    case CompatWarmUp::kAllReduce:
      PC_RETURN_IF_ERROR(FindAllReduce(*library, &warm_up.all_reduce));
      break;
  }
  CompatEnd end;
  // Before the communicator: nothing is allocated or loaded while its peers wait for it.
  PC_ASSIGN_OR_RETURN(end.engine, MakeCudaCopyEngine({options.device, options.copy_blocks}));
  PC_ASSIGN_OR_RETURN(std::unique_ptr<Wire> wire,
                      MakeNcclWire(library, options, ranks, unique, nullptr));
  end.collective =
      MakeSilentCollective(ranks, std::make_unique<CompatWire>(std::move(wire), warm_up));
  return end;
}

}  // namespace packcast
