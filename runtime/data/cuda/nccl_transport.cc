#include "runtime/data/cuda/nccl_transport.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "protocol/codec.h"
#include "runtime/data/cuda/device.h"
#include "runtime/data/cuda/nccl_id.h"
#include "runtime/data/cuda/nccl_library.h"
#include "runtime/data/cuda/nccl_wire.h"

namespace packcast {
namespace {

// The rendezvous: msgpack map of "id" (NCCL's unique ID) and "control" (the blob of the words'
// transport).
Bytes EncodeBlob(const ncclUniqueId& id, const Bytes& control) {
  const auto* bytes = reinterpret_cast<const std::byte*>(id.internal);
  const std::string text =
      Encode(Value(ValueMap{{"id", Bytes(bytes, bytes + sizeof id)}, {"control", control}}));
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(data, data + text.size());
}

Status DecodeBlob(const Bytes& blob, ncclUniqueId* id, Bytes* control) {
  // No part of the blob goes into an error: it is a secret.
  const Status bad = InvalidArgument("the rendezvous of kind \"nccl\" is malformed");
  const StatusOr<Value> value = Decode(std::span<const std::byte>(blob));
  if (!value.ok()) return bad;
  const Value* id_value = value->Find("id");
  const Value* control_value = value->Find("control");
  if (id_value == nullptr || id_value->AsBytes() == nullptr ||
      id_value->AsBytes()->size() != sizeof *id || control_value == nullptr ||
      control_value->AsBytes() == nullptr) {
    return bad;
  }
  std::memcpy(id->internal, id_value->AsBytes()->data(), sizeof *id);
  *control = *control_value->AsBytes();
  return OkStatus();
}

std::string LibraryName(const NcclLibrary& library) {
  return "NCCL " + NcclVersionName(library.version);
}

class NcclTransport final : public Transport {
 public:
  NcclTransport(NcclTransportOptions options, const NcclLibrary* library,
                std::unique_ptr<Transport> control, std::shared_ptr<CopyEngine> engine)
      : options_(std::move(options)),
        library_(library),
        control_(std::move(control)),
        engine_(std::move(engine)),
        device_{engine_.get()},
        memory_(NcclMemory::Of(options_.device)) {}

  std::string_view kind() const override { return "nccl"; }
  const DevicePath* device() const override { return &device_; }
  TransportOffer offer() const override {
    TransportOffer offer;
    offer.kind = kind();
    offer.library = LibraryName(*library_);
    offer.direct_bytes_min = options_.direct_bytes_min;
    offer.cta_count_max = static_cast<uint32_t>(std::max(options_.cta_count_max, 0));
    if (memory_->live == 0) offer.device_bytes = memory_->bytes;
    return offer;
  }
  StatusOr<Rendezvous> MakeRendezvous(GenerationId generation) override;
  StatusOr<std::unique_ptr<Collective>> Join(const JoinOptions& options) override;
  void Forget(GenerationId generation) override {
    control_->Forget(generation);
    std::lock_guard lock(mutex_);
    ids_.erase(generation);
  }

 private:
  const NcclTransportOptions options_;
  const NcclLibrary* const library_;
  const std::unique_ptr<Transport> control_;
  const std::shared_ptr<CopyEngine> engine_;
  const DevicePath device_;
  NcclMemory* const memory_;
  std::mutex mutex_;
  std::map<GenerationId, std::unique_ptr<NcclId>> ids_;
};

StatusOr<Rendezvous> NcclTransport::MakeRendezvous(GenerationId generation) {
  PC_ASSIGN_OR_RETURN(const Rendezvous control, control_->MakeRendezvous(generation));
  StatusOr<std::unique_ptr<NcclId>> id =
      NcclId::Make(options_.id_helper, options_.library, options_.id_timeout);
  if (!id.ok()) {
    control_->Forget(generation);
    return id.status();
  }
  const Bytes blob = EncodeBlob((*id)->id(), control.blob);
  std::lock_guard lock(mutex_);
  ids_[generation] = std::move(id).value();
  return Rendezvous{std::string(kind()), blob};
}

StatusOr<std::unique_ptr<Collective>> NcclTransport::Join(const JoinOptions& options) {
  PC_RETURN_IF_ERROR(CheckJoin(options, kind()));
  ncclUniqueId id;
  JoinOptions control_options = options;
  control_options.rendezvous.kind = std::string(control_->kind());
  PC_RETURN_IF_ERROR(DecodeBlob(options.rendezvous.blob, &id, &control_options.rendezvous.blob));
  std::unique_ptr<NcclId> helper;
  {
    std::lock_guard lock(mutex_);
    if (const auto found = ids_.find(options.generation); found != ids_.end()) {
      helper = std::move(found->second);
      ids_.erase(found);
    }
  }
  PC_ASSIGN_OR_RETURN(std::unique_ptr<Collective> control, control_->Join(control_options));
  PC_ASSIGN_OR_RETURN(std::unique_ptr<Wire> wire,
                      MakeNcclWire(library_, options_, options, id, std::move(helper)));
  return MakeWiredCollective(options, std::move(control), std::move(wire));
}

}  // namespace

StatusOr<Allocator*> DeviceMemory(int device) {
  int count = 0;
  PC_RETURN_IF_ERROR(CudaStatus(cudaGetDeviceCount(&count), "looking for CUDA devices"));
  if (device < 0 || device >= count) {
    return InvalidArgument("device " + std::to_string(device) + " is not one of the " +
                           std::to_string(count) + " here");
  }
  return DeviceAllocator(device);
}

StatusOr<int> CountDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return count;
  (void)cudaGetLastError();  // must not surface elsewhere
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
    return Unavailable("no CUDA driver is installed");
  }
  const cudaError_t told = error == cudaSuccess ? cudaErrorNoDevice : error;
  return Unavailable("CUDA: " + std::string(cudaGetErrorString(told)));
}

Status FindDeviceTransport(int ranks, const std::string& library) {
  PC_RETURN_IF_ERROR(CountDevices().status());
  if (ranks == 2) {
    int reaches = 0;  // the worker's the trainer's
    if (cudaDeviceCanAccessPeer(&reaches, 1, 0) == cudaSuccess && reaches != 0) return OkStatus();
    (void)cudaGetLastError();
  }
  return LoadNccl(library).status();
}

StatusOr<std::unique_ptr<CopyEngine>> MakeDeviceEngine(int device, uint32_t blocks) {
  PC_RETURN_IF_ERROR(DeviceMemory(device).status());
  return MakeCudaCopyEngine({device, blocks});
}

StatusOr<std::unique_ptr<Transport>> MakeNcclTransport(const NcclTransportOptions& options,
                                                       std::shared_ptr<CopyEngine> engine) {
  PC_RETURN_IF_ERROR(DeviceMemory(options.device).status());
  PC_ASSIGN_OR_RETURN(const NcclLibrary* library, LoadNccl(options.library));
  NcclTransportOptions filled = options;
  if (filled.id_helper.empty()) filled.id_helper = FindNcclIdHelper();
  filled.control.bytes_elsewhere = true;
  PC_ASSIGN_OR_RETURN(std::unique_ptr<Transport> control, MakeZmqTransport(filled.control));
  if (engine == nullptr) {
    PC_ASSIGN_OR_RETURN(engine, MakeDeviceEngine(filled.device, filled.copy_blocks));
  }
  return std::unique_ptr<Transport>(std::make_unique<NcclTransport>(
      std::move(filled), library, std::move(control), std::move(engine)));
}

}  // namespace packcast
