#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "protocol/status.h"
#include "protocol/value.h"
#include "runtime/net/zmq_socket.h"

namespace packcast::internal {

// A message's body as it travels. Movable; used by one thread at a time.
struct WireBody {
  net::Frame value;                // msgpack; empty for nil
  std::vector<net::Frame> ranges;  // the byte ranges that it refers to, without a copy

  size_t size() const;
  // A second owner of the same bytes.
  WireBody Share() const;
};

// How many bytes of a process's memory ZeroMQ still reads for one connection, or messages that wait
// for it will have it read. Any thread.
using LentBytes = std::atomic<size_t>;

// `lent`: of a peer that takes byte ranges apart; null: of one that does not, which gets copies.
// kInvalidArgument: it cannot travel, and did not; kResourceExhausted: too much is lent already.
StatusOr<WireBody> EncodeBody(const Value& body, const std::shared_ptr<LentBytes>& lent);
// A whole body in msgpack, "" for nil, whoever it is for.
StatusOr<std::string> EncodeWhole(const Value& body);

// Errors: kInvalidArgument. Its byte ranges are those of the value.
StatusOr<Value> DecodeBody(WireBody body);

}  // namespace packcast::internal
