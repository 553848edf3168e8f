#pragma once

#include <memory>

#include "runtime/data/cuda/nccl_id.h"
#include "runtime/data/cuda/nccl_library.h"
#include "runtime/data/cuda/nccl_transport.h"
#include "runtime/data/wire.h"

namespace packcast {

// Begins to connect this rank and returns at once. `helper`, at the rank that made the ID, is kept
// until all are connected.
StatusOr<std::unique_ptr<Wire>> MakeNcclWire(const NcclLibrary* library,
                                             const NcclTransportOptions& transport,
                                             const JoinOptions& join, const ncclUniqueId& id,
                                             std::unique_ptr<NcclId> helper);

}  // namespace packcast
