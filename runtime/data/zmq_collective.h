#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "protocol/ids.h"
#include "protocol/time.h"
#include "runtime/data/transport.h"

namespace packcast {

struct ZmqTransportOptions {
  // Where a root listens. Other than loopback needs a trusted network: the token keeps strangers
  // out, but the bytes are neither encrypted nor authenticated one by one.
  std::string host = "127.0.0.1";
  // Bytes of one chunk on the wire; a multiple of 256, at most limits::kBulkFrameBytes. 1 MiB:
  // large enough that the cost per message (about 10 us) does not show at 2 GB/s, small enough
  // that a member copies one chunk while the next arrives.
  uint64_t chunk_bytes = uint64_t{1} << 20;
  // Chunks handed to ZeroMQ and not yet written to a member's connection, per member.
  uint32_t chunks_in_flight = 8;
  // How long Abort waits for ZeroMQ to let go of the buffers.
  Duration abort_timeout = Seconds(5);

  // Only words travel here, and an operation is complete once it is launched: something else moves
  // its bytes (wire.h).
  bool bytes_elsewhere = false;
  // With bytes_elsewhere: an operation is complete at the root when all members have released it.
  bool read_in_place = false;

  // Tests only: called at a member on bytes that just arrived, and may change them.
  std::function<void(uint32_t rank, Sequence sequence, uint64_t offset, std::span<std::byte>)>
      tamper_for_test;
};

// Ranks in processes of one or several hosts, over TCP ("zmq"): the root sends every chunk to each
// member from the buffer itself, each member at its own pace. docs/protocol.md has the messages.
// kInvalidArgument for options out of range.
StatusOr<std::unique_ptr<Transport>> MakeZmqTransport(ZmqTransportOptions options = {});

}  // namespace packcast
