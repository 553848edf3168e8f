// What a build without CUDA has of the GPUs' transports: an error that says so.

#include "runtime/data/cuda/gpu_peer_transport.h"
#include "runtime/data/cuda/nccl_transport.h"

namespace packcast {
namespace {

Status NoCuda() {
  return Unimplemented("packcast was built without CUDA: install the toolkit and NCCL's header");
}

}  // namespace

StatusOr<std::unique_ptr<Transport>> MakeNcclTransport(const NcclTransportOptions&,
                                                       std::shared_ptr<CopyEngine>) {
  return NoCuda();
}

StatusOr<std::unique_ptr<Transport>> MakeGpuPeerTransport(const GpuPeerOptions&,
                                                          std::shared_ptr<CopyEngine>) {
  return NoCuda();
}

StatusOr<std::unique_ptr<CopyEngine>> MakeDeviceEngine(int, uint32_t) { return NoCuda(); }

StatusOr<Allocator*> DeviceMemory(int) { return NoCuda(); }

StatusOr<int> CountDevices() { return NoCuda(); }

Status FindDeviceTransport(int, const std::string&) { return NoCuda(); }

}  // namespace packcast
