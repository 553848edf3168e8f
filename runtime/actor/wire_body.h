#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "protocol/codec.h"
#include "protocol/status.h"
#include "protocol/value.h"
#include "runtime/net/zmq_socket.h"

namespace packcast::internal {

// A message's body as it travels. Movable; used by one thread at a time.
struct WireBody {
  net::Frame value;    // msgpack; empty for nil
  ApartRanges ranges;  // that it refers to: each a frame of its own

  size_t range_bytes() const;
  size_t size() const { return value.size() + range_bytes(); }
  // A second owner of the same bytes.
  WireBody Share() const;
};

// `apart`: for a peer that takes byte ranges apart; another gets copies. kInvalidArgument: it
// cannot travel, and did not.
StatusOr<WireBody> EncodeBody(const Value& body, bool apart);
// A whole body in msgpack, "" for nil, whoever it is for.
StatusOr<std::string> EncodeWhole(const Value& body);

// What follows an envelope: the value, and the byte ranges, which become those of the body. Errors:
// kInvalidArgument.
StatusOr<WireBody> TakeBody(std::span<net::Frame> frames);
StatusOr<Value> DecodeBody(WireBody body);

}  // namespace packcast::internal
