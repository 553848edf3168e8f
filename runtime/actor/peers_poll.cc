// The part of Peers that knows when to look at which socket.
#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/base/clock.h"

namespace packcast::internal {

template <class Visit>
void Peers::ForEachSocket(const Visit& visit) {
  if (zap_) visit(zap_->socket());
  if (router_.is_open()) {
    visit(router_);
    visit(router_monitor_);
  }
  for (Channel& channel : channels_) {
    visit(channel.socket);
    visit(channel.monitor);
  }
}

void Peers::AppendPollItems(std::vector<pollfd>* items) {
  ForEachSocket([&](const net::ZmqSocket& socket) { items->push_back({socket.fd(), POLLIN, 0}); });
}

void Peers::TakePolled(std::span<const pollfd> items) {
  size_t k = 0;
  ForEachSocket([&](net::ZmqSocket& socket) {
    if (items[k++].revents != 0) socket.SetReadable();
  });
}

bool Peers::is_drained() {
  bool all = true;
  // A send that found no room was one, too: it must not keep us awake.
  ForEachSocket(
      [&](net::ZmqSocket& socket) { all = (socket.is_drained() || !socket.HasCome()) && all; });
  return all;
}

void Peers::AwaitAndReceive(int milliseconds) {
  std::vector<pollfd> items;
  AppendPollItems(&items);
  poll(items.data(), items.size(), is_drained() ? milliseconds : 0);
  TakePolled(items);
  Receive();
}

void Peers::Receive() {
  if (zap_ && !zap_->socket().is_drained()) ServeZap();
  if (router_.is_open()) ReceiveRouter();
  for (Channel& channel : channels_) {
    if (!channel.monitor.is_drained()) ReceiveMonitor(&channel);
    if (!channel.socket.is_drained()) ReceiveChannel(&channel);
  }
}

void Peers::ServeZap() {
  for (const std::string& address : zap_->Serve()) {
    node_->metrics().Get("refused_clients_total").Add();
    if (!malformed_log_.Allow(Now())) continue;
    LogWarning("node ", node_->options().name, ": turned away a client at ", address,
               ": its key is not on the list");
  }
}

}  // namespace packcast::internal
