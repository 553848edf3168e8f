#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/status.h"
#include "runtime/net/zmq_socket.h"

namespace packcast::net {

// Decides for a context's CURVE servers whom they let in (ZeroMQ RFC 27). Used by one thread, like
// its socket; it must be there before a server of the context is bound.
class ZapServer {
 public:
  // Lets in the clients with one of these public keys (Z85). Errors: those of DecodeKey (curve.h),
  // kUnavailable.
  static StatusOr<ZapServer> Open(ZmqContext& context, const std::vector<std::string>& allowed);

  // Answers what has come; returns the addresses that were turned away.
  std::vector<std::string> Serve();
  ZmqSocket& socket() { return socket_; }

 private:
  ZapServer() = default;
  ZmqSocket socket_;
  std::set<std::string, std::less<>> allowed_;  // 32 bytes each
};

}  // namespace packcast::net
