#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "runtime/data/cuda/nccl_id.h"
#include "runtime/data/cuda/nccl_library.h"
#include "runtime/data/cuda/nccl_transport.h"
#include "runtime/data/wire.h"

namespace packcast {

// What communicators take of a device's memory, in this process.
struct NcclMemory {
  // Of one, as the last that came up showed (the first leaves something behind for the others);
  // before the first: somewhat more than was ever seen.
  std::atomic<uint64_t> bytes{uint64_t{900} << 20};
  std::atomic<int> live{0};

  // Lives for ever. Thread-safe.
  static NcclMemory* Of(int device);
};

// Begins to connect this rank and returns at once. `helper`, at the rank that made the ID, is kept
// until all are connected.
StatusOr<std::unique_ptr<Wire>> MakeNcclWire(const NcclLibrary* library,
                                             const NcclTransportOptions& transport,
                                             const JoinOptions& join, const ncclUniqueId& id,
                                             std::unique_ptr<NcclId> helper);

}  // namespace packcast
