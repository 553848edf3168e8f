#pragma once

#include <memory>
#include <optional>
#include <string>

#include "protocol/status.h"
#include "runtime/data/transport.h"
#include "runtime/data/zmq_collective.h"

namespace packcast {

struct ShmTransportOptions {
  // The word for it in offers. LocalShmKind() is one that ranks of different hosts do not share, so
  // that they agree on another transport.
  std::string kind = "shm";
  ZmqTransportOptions control;  // the words'; bytes_elsewhere and read_in_place are set here
};

// "shm@" and eight hex digits that are the same for the processes of one boot of one host, one PID
// namespace and one user.
// Nothing where that cannot be told, because /proc is not readable.
std::optional<std::string> LocalShmKind();

// Ranks in processes of one host, one PID namespace and one user ("shm"): the root packs into
// memory that the members read where it is, so a byte is copied once by the root and once by each
// member. The root's ring comes from allocator(); no rows travel direct. Words (grants, gates,
// seals) go over ZeroMQ, which also finds the dead. docs/protocol.md has the layout.
StatusOr<std::unique_ptr<Transport>> MakeShmTransport(ShmTransportOptions options = {});

}  // namespace packcast
