#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "runtime/data/collective.h"
#include "runtime/data/span_cursor.h"

namespace packcast::zmq_bulk {

// Pings find a connection that is gone while nothing else is sent.
inline constexpr Duration kPingInterval = Milliseconds(50);
inline constexpr uint32_t kPingsAtOnce = 20;
inline constexpr uint32_t kPingsMax = 500;

// A launched operation at the root, until all members' chunks have been written.
struct Sending {
  Operation operation;
  std::shared_ptr<std::atomic<uint64_t>> bytes_left;  // over all members
};

// A message of the control kind: a header, and what follows it, shared by all members.
struct Control {
  std::string header;
  std::shared_ptr<const std::string> body;  // null: none
};

// One member, as the root sees it.
struct Peer {
  std::string routing_id;       // empty until its hello
  bool in_stream = false;       // has begun the present stream
  bool gone = false;            // its connection is closed
  uint32_t pings_out = 0;       // not answered yet
  std::deque<Control> control;  // gates and seals of the steps in flight, at most
  uint64_t next = 0;            // operation whose chunks it gets now
  SpanCursor cursor;
  bool cursor_set = false;
};

}  // namespace packcast::zmq_bulk
