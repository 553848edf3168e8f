#include "runtime/data/cuda/gpu_peer_transport.h"

#include <optional>
#include <string>
#include <utility>

#include "runtime/data/cuda/cuda_peer_memory.h"
#include "runtime/data/cuda/nccl_transport.h"
#include "runtime/data/peer_transport.h"

namespace packcast {

StatusOr<std::unique_ptr<Transport>> MakeGpuPeerTransport(const GpuPeerOptions& options,
                                                          std::shared_ptr<CopyEngine> engine) {
  const std::optional<std::string> kind = LocalPeerKind();
  if (!kind) return Unavailable("/proc does not say which host this is");
  if (engine == nullptr) {
    PC_ASSIGN_OR_RETURN(engine, MakeDeviceEngine(options.device, options.copy_blocks));
  }
  PC_ASSIGN_OR_RETURN(std::unique_ptr<PeerMemory> memory, MakeCudaPeerMemory(options.device));
  PeerTransportOptions peer;
  peer.kind = *kind;
  peer.direct_bytes_min = options.direct_bytes_min;
  peer.in_place = options.in_place;
  peer.control = options.control;
  return MakePeerTransport(std::move(peer), std::move(memory), std::move(engine));
}

}  // namespace packcast
