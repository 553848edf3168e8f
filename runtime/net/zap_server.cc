#include "runtime/net/zap_server.h"

#include <utility>

#include "runtime/net/curve.h"

namespace packcast::net {
namespace {

constexpr char kEndpoint[] = "inproc://zeromq.zap.01";
// A request: version, request id, domain, address, routing id, mechanism, credentials.
constexpr size_t kRequestFrames = 7;

}  // namespace

StatusOr<ZapServer> ZapServer::Open(ZmqContext& context, const std::vector<std::string>& allowed) {
  ZapServer server;
  for (const std::string& key : allowed) {
    PC_ASSIGN_OR_RETURN(std::string bytes, DecodeKey(key));
    server.allowed_.insert(std::move(bytes));
  }
  PC_ASSIGN_OR_RETURN(server.socket_, ZmqSocket::Open(context, SocketType::kReply, {}));
  PC_RETURN_IF_ERROR(server.socket_.Bind(kEndpoint).status());
  return server;
}

std::vector<std::string> ZapServer::Serve() {
  std::vector<std::string> refused;
  Frames request;
  while (true) {
    const ReceiveResult result = socket_.Receive(&request);
    if (result != ReceiveResult::kMessage && result != ReceiveResult::kTooManyFrames) break;
    // Only this library asks here; what it may ask one day, and we do not know, is refused.
    const bool is_known = result == ReceiveResult::kMessage && request.size() == kRequestFrames;
    const bool is_allowed = is_known && request[5].view() == "CURVE" &&
                            allowed_.find(request[6].view()) != allowed_.end();
    Frames reply;
    reply.emplace_back(std::string_view("1.0"));
    reply.emplace_back(is_known ? request[1].view() : std::string_view());
    reply.emplace_back(std::string_view(is_allowed ? "200" : "400"));
    reply.emplace_back(std::string_view(is_allowed ? "OK" : "the key is not on the list"));
    reply.emplace_back(std::string_view());  // user
    reply.emplace_back(std::string_view());  // metadata
    (void)socket_.Send(&reply);              // libzmq's own side always reads
    if (!is_allowed) refused.emplace_back(is_known ? request[3].view() : std::string_view());
  }
  return refused;
}

}  // namespace packcast::net
