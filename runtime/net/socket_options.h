#pragma once

#include <optional>
#include <string>
#include <vector>

#include "protocol/limits.h"
#include "protocol/time.h"

namespace packcast::net {

// ZeroMQ socket types that packcast uses: never PUB/SUB, and REP for ZeroMQ's own questions only.
enum class SocketType { kRouter, kDealer, kPair, kReply };

// CURVE keys (Z85 text). A server needs its own secret key; a client all three.
struct CurveKeys {
  bool is_server = false;
  std::string public_key;
  std::string secret_key;
  std::string server_public_key;
};

// Every option of a socket, explicit. The defaults are those of the control lane; a data lane
// changes what it needs (frame size, high-water marks, kernel buffers). Plain data.
struct SocketOptions {
  // Identity of a DEALER at the ROUTER; empty lets the ROUTER invent one.
  std::string routing_id;
  // Messages that ZeroMQ may hold per connection: small, because our own windows are the queue.
  int send_high_water = 1024;
  int receive_high_water = 1024;
  // A longer frame makes the connection close. -1: unlimited (inproc only).
  int64_t max_frame_bytes = limits::kControlFrameBytes;  // without what CURVE adds
  // What a closed socket may still take to send. Never unlimited.
  Duration linger = Milliseconds(0);
  // ZMTP pings find half-open TCP connections. They prove the peer's I/O thread, not its actors.
  Duration heartbeat_interval = Milliseconds(500);
  Duration heartbeat_timeout = Milliseconds(1500);
  Duration heartbeat_ttl = Milliseconds(2000);
  Duration handshake_timeout = Milliseconds(5000);
  Duration connect_timeout = Milliseconds(3000);
  Duration reconnect_first = Milliseconds(20);
  Duration reconnect_max = Milliseconds(2000);
  Duration tcp_max_retransmit = Milliseconds(5000);
  // Kernel buffers; -1 leaves the system's own.
  int kernel_send_bytes = -1;
  int kernel_receive_bytes = -1;
  int backlog = 1024;
  // ROUTER: a new connection that names the routing id of an old one takes its place, which a peer
  // that reconnects needs. Without reconnects it would only let strangers cut others off.
  bool router_handover = true;
  std::optional<CurveKeys> curve;
};

// One row of the table: the option's libzmq number and name, and its value.
struct OptionSetting {
  int option = 0;
  const char* name = "";
  int64_t number = 0;
  // Used instead of `number` when has_text.
  std::string text;
  bool has_text = false;
  bool is_int64 = false;
};

// The whole table for a socket of `type`: what Open applies, in order. Pure.
std::vector<OptionSetting> OptionTable(SocketType type, const SocketOptions& options);

}  // namespace packcast::net
