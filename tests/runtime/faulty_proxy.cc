#include "tests/runtime/faulty_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/base/check.h"

namespace packcast::testing {
namespace {

constexpr size_t kMostWaiting = 64u << 10;

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

void MakeQuick(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

}  // namespace

FaultyProxy::FaultyProxy(const std::string& target)
    : target_port_(static_cast<uint16_t>(std::stoi(target.substr(target.rfind(':') + 1)))) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in address = Loopback(0);
  PC_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  PC_CHECK(listen(listener_, 16) == 0);
  socklen_t size = sizeof address;
  PC_CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { Run(); });
}

FaultyProxy::~FaultyProxy() {
  is_ending_ = true;
  wakeup_.Raise();
  thread_.join();
  for (Connection& connection : connections_) Close(&connection);
  close(listener_);
}

std::string FaultyProxy::endpoint() const { return "tcp://127.0.0.1:" + std::to_string(port_); }

void FaultyProxy::Cut() {
  is_cutting_ = true;
  wakeup_.Raise();
}

void FaultyProxy::Stall(bool to_target, bool to_source) {
  is_stalled_[0] = to_target;
  is_stalled_[1] = to_source;
  wakeup_.Raise();
}

void FaultyProxy::Refuse(bool on) { is_refusing_ = on; }

void FaultyProxy::Close(Connection* connection) {
  close(connection->source);
  close(connection->target);
}

void FaultyProxy::Accept() {
  const int source = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (source < 0) return;
  if (is_refusing_) {
    close(source);
    return;
  }
  const int target = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(target_port_);
  if (connect(target, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    close(source);
    close(target);
    return;
  }
  MakeQuick(source);
  MakeQuick(target);
  Connection& made = connections_.emplace_back();
  made.source = source;
  made.target = target;
  made.ways[0] = {source, target, "", false};
  made.ways[1] = {target, source, "", false};
}

// False when the connection has ended on either side.
bool FaultyProxy::Carry(Way* way, bool is_stalled) {
  if (is_stalled) return true;
  char bytes[16384];
  while (way->waiting.size() < kMostWaiting) {
    const ssize_t count = read(way->from, bytes, sizeof bytes);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (count <= 0) {
      way->is_over = true;
      break;
    }
    way->waiting.append(bytes, static_cast<size_t>(count));
  }
  while (!way->waiting.empty()) {
    const ssize_t count = send(way->to, way->waiting.data(), way->waiting.size(), MSG_NOSIGNAL);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (count < 0) return false;
    way->waiting.erase(0, static_cast<size_t>(count));
  }
  return !way->is_over;
}

void FaultyProxy::Run() {
  while (!is_ending_) {
    std::vector<pollfd> items = {{wakeup_.fd(), POLLIN, 0}, {listener_, POLLIN, 0}};
    for (const Connection& connection : connections_) {
      for (int k = 0; k < 2; ++k) {
        const Way& way = connection.ways[k];
        if (is_stalled_[k]) continue;
        items.push_back({way.from, static_cast<short>(way.waiting.empty() ? POLLIN : 0), 0});
        items.push_back({way.to, static_cast<short>(way.waiting.empty() ? 0 : POLLOUT), 0});
      }
    }
    poll(items.data(), items.size(), 1000);
    if (items[0].revents != 0) wakeup_.Lower();
    if (items[1].revents != 0) Accept();
    const bool is_cut = is_cutting_.exchange(false);
    for (auto it = connections_.begin(); it != connections_.end();) {
      const bool stands =
          !is_cut && Carry(&it->ways[0], is_stalled_[0]) && Carry(&it->ways[1], is_stalled_[1]);
      if (!stands) Close(&*it);
      it = stands ? std::next(it) : connections_.erase(it);
    }
  }
}

}  // namespace packcast::testing
