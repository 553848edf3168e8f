#pragma once

#include <memory>
#include <string>

#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/copy_engine.h"
#include "runtime/data/peer_memory.h"
#include "runtime/data/transport.h"
#include "runtime/data/zmq_collective.h"

namespace packcast {

struct PeerTransportOptions {
  // The word for it in offers: "peer@" and what only ranks of this host share (LocalPeerKind).
  std::string kind = "peer";
  // Rows from this size are read from where the trainer has them; 0: all are packed, and members
  // read nothing but the root's buffers.
  uint64_t direct_bytes_min = 0;
  // At a receiver: its kernels unpack straight out of the root's buffers, instead of out of a copy.
  // A third of the traffic on its device's memory, and no buffers there, but slower. Packed rows
  // only.
  bool in_place = false;
  Duration abort_timeout = Seconds(5);
  ZmqTransportOptions control;  // the words'; bytes_elsewhere and read_in_place are set here
};

// "peer@" and eight hex digits; nothing where LocalShmKind() has none.
std::optional<std::string> LocalPeerKind();

// A root and receivers whose devices reach each other ("peer"): a receiver copies out of the root's
// memory with its device's copy engine, which is faster than a collective and leaves both devices'
// processors alone. Of several, each reads from the buffers of the one before it
// (chain_collective.h): every link carries the bytes once. Words (grants, gates, seals) go over
// ZeroMQ. The engine may be another transport's too: one of them is in use at a time.
// docs/protocol.md has the layout.
// Errors: the allocator's, for some kilobytes; PeerMemory::Find's, where they cannot be shared.
StatusOr<std::unique_ptr<Transport>> MakePeerTransport(PeerTransportOptions options,
                                                       std::unique_ptr<PeerMemory> memory,
                                                       std::shared_ptr<CopyEngine> engine);

}  // namespace packcast
