#include "actors/member_transport.h"

#include <algorithm>
#include <utility>

#include "runtime/base/log.h"
#include "runtime/data/buffer_ring.h"
#include "runtime/data/copy_engine.h"
#include "runtime/data/cuda/gpu_peer_transport.h"
#include "runtime/data/shm_transport.h"
#include "runtime/data/zmq_collective.h"

namespace packcast {
namespace {

// Takes an engine less than 15 % of its rate (docs/performance.md); 16 would read at NVLink's.
constexpr uint32_t kGentleBlocks = 9;

}  // namespace

StatusOr<MemberTransports> MemberTransports::Make(const MemberWays& ways) {
  ZmqTransportOptions words;
  words.host = ways.host;
  MemberTransports transports;
  if (ways.device) {
    PC_RETURN_IF_ERROR(transports.AddForDevice(ways));
    return transports;
  }
  if (ways.shared_memory) {
    const std::optional<std::string> kind = LocalShmKind();
    if (!kind) {
      return Unavailable("shared memory was asked for, but /proc does not say which host this is");
    }
    PC_ASSIGN_OR_RETURN(auto shm, MakeShmTransport({.kind = *kind, .control = words}));
    transports.all_.push_back(std::move(shm));
  }
  PC_ASSIGN_OR_RETURN(auto zmq, MakeZmqTransport(words));
  transports.all_.push_back(std::move(zmq));
  return transports;
}

// The best first. A machine may have one of them only.
Status MemberTransports::AddForDevice(const MemberWays& ways) {
  NcclTransportOptions options = *ways.device;
  options.control.host = ways.host;
  if (ways.gentle) options.copy_blocks = std::min(options.copy_blocks, kGentleBlocks);
  PC_ASSIGN_OR_RETURN(std::shared_ptr<CopyEngine> engine,
                      MakeDeviceEngine(options.device, options.copy_blocks));
  if (ways.peer_copies) {
    GpuPeerOptions peer;
    peer.device = options.device;
    peer.in_place = ways.gentle;
    peer.control = options.control;
    auto transport = MakeGpuPeerTransport(peer, engine);
    if (transport.ok()) {
      all_.push_back(std::move(transport).value());
    } else {
      LogInfo("no peer copies: ", transport.status().ToString());
    }
  }
  auto nccl = MakeNcclTransport(options, engine);
  if (nccl.ok()) {
    all_.push_back(std::move(nccl).value());
  } else if (all_.empty()) {
    return nccl.status();
  } else {
    LogInfo("no NCCL: ", nccl.status().ToString());
  }
  return OkStatus();
}

void MemberTransports::Describe(Offer* offer) const {
  for (const auto& transport : all_) {
    if (!transport->is_usable()) continue;
    offer->transports.push_back(transport->offer());
    const DevicePath* const device = transport->device();
    if (device != nullptr) offer->memory_free = device->engine->allocator()->FreeBytes();
  }
}

std::vector<Transport*> MemberTransports::pointers() const {
  std::vector<Transport*> pointers;
  for (const auto& transport : all_) pointers.push_back(transport.get());
  return pointers;
}

}  // namespace packcast
