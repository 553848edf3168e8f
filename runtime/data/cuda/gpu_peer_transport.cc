#include "runtime/data/cuda/gpu_peer_transport.h"

#include <optional>
#include <string>
#include <utility>

#include "runtime/data/cuda/cuda_peer_memory.h"
#include "runtime/data/cuda/device.h"
#include "runtime/data/peer_transport.h"

namespace packcast {

StatusOr<std::unique_ptr<Transport>> MakeGpuPeerTransport(const GpuPeerOptions& options) {
  const std::optional<std::string> kind = LocalPeerKind();
  if (!kind) return Unavailable("/proc does not say which host this is");
  PC_ASSIGN_OR_RETURN(std::unique_ptr<CopyEngine> engine,
                      MakeCudaCopyEngine({options.device, options.copy_blocks}));
  PC_ASSIGN_OR_RETURN(std::unique_ptr<PeerMemory> memory, MakeCudaPeerMemory(options.device));
  PeerTransportOptions peer;
  peer.kind = *kind;
  peer.direct_bytes_min = options.direct_bytes_min;
  peer.control = options.control;
  return MakePeerTransport(std::move(peer), std::move(memory), std::move(engine));
}

}  // namespace packcast
