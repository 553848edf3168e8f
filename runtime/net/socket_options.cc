#include "runtime/net/socket_options.h"

#include <zmq.h>

namespace packcast::net {
namespace {

// zmq.h has its name for drafts only.
constexpr int kZapEnforceDomain = 93;
// What CURVE puts around a frame (ZeroMQ RFC 26): "\x07MESSAGE", the nonce, the authenticator and
// flags. It counts where libzmq looks at a frame's length.
constexpr int64_t kCurveBytes = 8 + 8 + 16 + 1;

OptionSetting Int(int option, const char* name, int64_t number) {
  return {option, name, number, "", false, false};
}

OptionSetting Millis(int option, const char* name, Duration duration) {
  return Int(option, name, ToMilliseconds(duration));
}

OptionSetting Text(int option, const char* name, std::string text) {
  return {option, name, 0, std::move(text), true, false};
}

void AppendCurve(const CurveKeys& keys, std::vector<OptionSetting>* table) {
  if (keys.is_server) {
    table->push_back(Int(ZMQ_CURVE_SERVER, "CURVE_SERVER", 1));
    table->push_back(Text(ZMQ_CURVE_SECRETKEY, "CURVE_SECRETKEY", keys.secret_key));
    // ZapServer decides who comes in; nobody does where there is none.
    table->push_back(Text(ZMQ_ZAP_DOMAIN, "ZAP_DOMAIN", "packcast"));
    table->push_back(Int(kZapEnforceDomain, "ZAP_ENFORCE_DOMAIN", 1));
    return;
  }
  table->push_back(Text(ZMQ_CURVE_SERVERKEY, "CURVE_SERVERKEY", keys.server_public_key));
  table->push_back(Text(ZMQ_CURVE_PUBLICKEY, "CURVE_PUBLICKEY", keys.public_key));
  table->push_back(Text(ZMQ_CURVE_SECRETKEY, "CURVE_SECRETKEY", keys.secret_key));
}

// A DEALER pings and a ROUTER answers, but does not ping itself: when a peer's new connection takes
// the place of its old one, libzmq leaves that without a reader. One more message on it, then its
// end, and the next ping fails an assertion in libzmq, which ends the process (its issue 4364).
void AppendHeartbeats(SocketType type, const SocketOptions& o, std::vector<OptionSetting>* table) {
  const bool pings = type != SocketType::kRouter;
  table->push_back(
      Millis(ZMQ_HEARTBEAT_IVL, "HEARTBEAT_IVL", pings ? o.heartbeat_interval : Duration::zero()));
  table->push_back(Millis(ZMQ_HEARTBEAT_TIMEOUT, "HEARTBEAT_TIMEOUT", o.heartbeat_timeout));
  table->push_back(Millis(ZMQ_HEARTBEAT_TTL, "HEARTBEAT_TTL", o.heartbeat_ttl));
}

}  // namespace

std::vector<OptionSetting> OptionTable(SocketType type, const SocketOptions& o) {
  std::vector<OptionSetting> table = {
      // The default of -1 hangs the context's end for ever.
      Millis(ZMQ_LINGER, "LINGER", o.linger),
      Int(ZMQ_SNDHWM, "SNDHWM", o.send_high_water),
      Int(ZMQ_RCVHWM, "RCVHWM", o.receive_high_water),
      // The owner polls; no socket call ever waits.
      Int(ZMQ_SNDTIMEO, "SNDTIMEO", 0),
      Int(ZMQ_RCVTIMEO, "RCVTIMEO", 0),
  };
  if (type == SocketType::kPair || type == SocketType::kReply) return table;  // inproc
  const int64_t most = o.max_frame_bytes + (o.curve ? kCurveBytes : 0);
  table.push_back({ZMQ_MAXMSGSIZE, "MAXMSGSIZE", most, "", false, true});
  AppendHeartbeats(type, o, &table);
  table.push_back(Millis(ZMQ_HANDSHAKE_IVL, "HANDSHAKE_IVL", o.handshake_timeout));
  table.push_back(Millis(ZMQ_TCP_MAXRT, "TCP_MAXRT", o.tcp_max_retransmit));
  table.push_back(Int(ZMQ_SNDBUF, "SNDBUF", o.kernel_send_bytes));
  table.push_back(Int(ZMQ_RCVBUF, "RCVBUF", o.kernel_receive_bytes));
  if (type == SocketType::kRouter) {
    // Without MANDATORY a message to an unknown peer is dropped in silence.
    table.push_back(Int(ZMQ_ROUTER_MANDATORY, "ROUTER_MANDATORY", 1));
    table.push_back(Int(ZMQ_ROUTER_HANDOVER, "ROUTER_HANDOVER", o.router_handover ? 1 : 0));
    table.push_back(Int(ZMQ_BACKLOG, "BACKLOG", o.backlog));
  } else {
    // Do not queue for a server that is down: its successor would get the messages.
    table.push_back(Int(ZMQ_IMMEDIATE, "IMMEDIATE", 1));
    table.push_back(Int(ZMQ_PROBE_ROUTER, "PROBE_ROUTER", 0));
    table.push_back(Millis(ZMQ_CONNECT_TIMEOUT, "CONNECT_TIMEOUT", o.connect_timeout));
    table.push_back(Millis(ZMQ_RECONNECT_IVL, "RECONNECT_IVL", o.reconnect_first));
    table.push_back(Millis(ZMQ_RECONNECT_IVL_MAX, "RECONNECT_IVL_MAX", o.reconnect_max));
  }
  if (!o.routing_id.empty()) {
    table.push_back(Text(ZMQ_ROUTING_ID, "ROUTING_ID", o.routing_id));
  }
  if (o.curve) AppendCurve(*o.curve, &table);
  return table;
}

}  // namespace packcast::net
