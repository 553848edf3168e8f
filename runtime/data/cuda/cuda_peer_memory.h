#pragma once

#include <memory>

#include "protocol/status.h"
#include "runtime/data/peer_memory.h"

namespace packcast {

// A device's memory, shared by CUDA's IPC handles. Copies run on a stream of their own, by a copy
// engine. Errors: CudaStatus.
StatusOr<std::unique_ptr<PeerMemory>> MakeCudaPeerMemory(int device);

}  // namespace packcast
