#pragma once

#include <cstdint>
#include <memory>

#include "protocol/status.h"
#include "runtime/data/transport.h"
#include "runtime/data/zmq_collective.h"

namespace packcast {

struct GpuPeerOptions {
  int device = 0;
  // Blocks of the kernels that pack, unpack and verify, of an engine of its own.
  uint32_t copy_blocks = 32;
  // Rows from this size are read from where the trainer has them; 0: none, which is faster
  // (docs/performance.md), and shares no memory but packcast's own buffers. Else the receiver maps
  // the trainer's allocations, which must come from cudaMalloc.
  uint64_t direct_bytes_min = 0;
  // At a receiver: unpack straight out of the trainer's buffers (WorkerOptions::gentle).
  bool in_place = false;
  ZmqTransportOptions control;  // where grants, gates and seals travel
};

// A trainer's GPU and workers' of one host, over NVLink or PCIe ("peer@..."): a worker copies out
// of the memory of the trainer, or of the worker before it (runtime/data/peer_transport.h). Without
// CUDA in the build: kUnimplemented. Errors: kUnavailable where it cannot be told which host this
// is. `engine`: one to share with the device's other transport; null: one of its own.
StatusOr<std::unique_ptr<Transport>> MakeGpuPeerTransport(
    const GpuPeerOptions& options, std::shared_ptr<CopyEngine> engine = nullptr);

}  // namespace packcast
