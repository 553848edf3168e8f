#include "runtime/data/cuda/gpu_peer_transport.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "runtime/data/cuda/cuda_peer_memory.h"
#include "runtime/data/cuda/device.h"
#include "runtime/data/peer_transport.h"

namespace packcast {

// As many as read at the rate of NVLink; more gain nothing.
constexpr uint32_t kGentleBlocks = 16;

StatusOr<std::unique_ptr<Transport>> MakeGpuPeerTransport(const GpuPeerOptions& options) {
  const std::optional<std::string> kind = LocalPeerKind();
  if (!kind) return Unavailable("/proc does not say which host this is");
  const uint32_t blocks =
      options.gentle ? std::min(options.copy_blocks, kGentleBlocks) : options.copy_blocks;
  PC_ASSIGN_OR_RETURN(std::unique_ptr<CopyEngine> engine,
                      MakeCudaCopyEngine({options.device, blocks}));
  PC_ASSIGN_OR_RETURN(std::unique_ptr<PeerMemory> memory, MakeCudaPeerMemory(options.device));
  PeerTransportOptions peer;
  peer.kind = *kind;
  peer.direct_bytes_min = options.direct_bytes_min;
  peer.in_place = options.gentle;
  peer.control = options.control;
  return MakePeerTransport(std::move(peer), std::move(memory), std::move(engine));
}

}  // namespace packcast
