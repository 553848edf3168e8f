#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "protocol/codec.h"
#include "protocol/status.h"
#include "protocol/value.h"
#include "runtime/net/zmq_socket.h"

namespace packcast::internal {

// A message's body as it travels. Movable; used by one thread at a time.
struct WireBody {
  net::Frame value;  // msgpack; empty for nil
  // That it refers to: each a frame of its own. Null for none, as in nearly all messages.
  std::shared_ptr<const ApartRanges> apart = nullptr;

  std::span<const ByteRange> ranges() const {
    return apart == nullptr ? std::span<const ByteRange>() : *apart;
  }
  size_t range_bytes() const {
    size_t bytes = 0;
    for (const ByteRange& range : ranges()) bytes += range.size();
    return bytes;
  }
  size_t size() const { return value.size() + range_bytes(); }
  // A second owner of the same bytes.
  WireBody Share() const { return {value.Share(), apart}; }
  // One that holds no memory of others.
  WireBody Copy() const;
};

// `takes_ranges`: the peer takes byte ranges apart; another gets copies. `out` is empty before, and
// where there is an error. kInvalidArgument: it cannot travel, and did not.
Status EncodeBody(const Value& body, bool takes_ranges, WireBody* out);
// A whole body in msgpack, "" for nil, whoever it is for.
StatusOr<std::string> EncodeWhole(const Value& body);

// What follows an envelope: the value, and the byte ranges, which become those of the body. Errors:
// kInvalidArgument.
StatusOr<WireBody> TakeBody(std::span<net::Frame> frames);
StatusOr<Value> DecodeBody(const WireBody& body);

}  // namespace packcast::internal
