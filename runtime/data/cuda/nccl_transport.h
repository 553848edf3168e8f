#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "protocol/time.h"
#include "runtime/data/buffer_ring.h"
#include "runtime/data/copy_engine.h"
#include "runtime/data/transport.h"
#include "runtime/data/zmq_collective.h"

namespace packcast {

struct NcclTransportOptions {
  int device = 0;
  std::string library;    // libnccl.so.2; "": the process's own, else the system's
  std::string id_helper;  // packcast_nccl_id; "": beside the program
  // Blocks that NCCL may take of the device, 0: as it likes. More are faster, up to a point, and
  // leave less to an engine that serves meanwhile.
  int cta_count_max = 0;
  // Blocks of the kernels that pack, unpack and verify beside it.
  uint32_t copy_blocks = 32;
  // Rows from this size are broadcast from where they are, without a buffer (docs/performance.md).
  uint64_t direct_bytes_min = uint64_t{1} << 20;
  Duration id_timeout = Seconds(20);
  Duration abort_timeout = Seconds(5);
  ZmqTransportOptions control;  // where grants, gates and seals travel
};

// Ranks on one GPU each, over NCCL ("nccl"): bytes by ncclBroadcast, words over ZeroMQ. One per
// process and device. Without CUDA in the build: kUnimplemented. Errors: kUnavailable without a
// device or libnccl. `engine`: one to share with the device's other transport; null: one of its
// own.
StatusOr<std::unique_ptr<Transport>> MakeNcclTransport(
    const NcclTransportOptions& options, std::shared_ptr<CopyEngine> engine = nullptr);

// What packs, unpacks and verifies on a device, with `blocks` blocks of 512 threads; about 5 MiB of
// its memory. Errors: as MakeNcclTransport.
StatusOr<std::unique_ptr<CopyEngine>> MakeDeviceEngine(int device, uint32_t blocks);

// A device's memory, by cudaMalloc: buffers, sources and sinks take it from here. Lives for ever;
// thread-safe. Errors: as MakeNcclTransport.
StatusOr<Allocator*> DeviceMemory(int device);

// How many GPUs this process sees, at least one. For who has not decided yet whether to use them:
// this and FindDeviceTransport make no CUDA context. Errors: kUnimplemented without CUDA in the
// build, kUnavailable without a driver or a GPU.
StatusOr<int> CountDevices();

// OK when weights could travel between GPUs 0 to `ranks` - 1, one of them a trainer's: there are
// two which can copy from each other, or `library` (as in NcclTransportOptions) can be loaded.
// Errors: as MakeNcclTransport.
Status FindDeviceTransport(int ranks, const std::string& library);

}  // namespace packcast
