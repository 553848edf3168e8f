#include "runtime/net/connection_probe.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

namespace packcast::net {
namespace {

constexpr std::string_view kIpc = "ipc://";

// Of the socket itself: no two that are open have the same.
uint64_t IdOf(int fd) {
  struct stat info {};
  return fstat(fd, &info) == 0 ? info.st_ino : 0;
}

}  // namespace

StatusOr<ConnectionProbe> ConnectionProbe::Open(const std::string& endpoint) {
  ConnectionProbe probe;
  if (endpoint.starts_with(kIpc)) {
    probe.path_ = endpoint.substr(kIpc.size());
    if (probe.path_.starts_with('@')) probe.path_[0] = '\0';  // no file
  } else {
    probe.port_ =
        static_cast<uint16_t>(std::atoi(endpoint.substr(endpoint.rfind(':') + 1).c_str()));
  }
  probe.nothing_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (probe.nothing_ >= 0) probe.copy_ = fcntl(probe.nothing_, F_DUPFD_CLOEXEC, 0);
  if (probe.copy_ >= 0 && probe.TakeBack()) return probe;
  return ResourceExhausted(std::string("descriptors to listen with: ") + std::strerror(errno));
}

ConnectionProbe::ConnectionProbe(ConnectionProbe&& other) noexcept
    : port_(other.port_),
      path_(std::move(other.path_)),
      nothing_(std::exchange(other.nothing_, -1)),
      copy_(std::exchange(other.copy_, -1)),
      spare_(std::exchange(other.spare_, -1)) {}

ConnectionProbe::~ConnectionProbe() {
  for (const int fd : {nothing_, copy_, spare_}) {
    if (fd >= 0) close(fd);
  }
}

bool ConnectionProbe::IsAccepted() const {
  int is_listener = 0;
  socklen_t size = sizeof is_listener;
  if (getsockopt(copy_, SOL_SOCKET, SO_ACCEPTCONN, &is_listener, &size) != 0) return false;
  sockaddr_storage local{};
  size = sizeof local;
  if (is_listener != 0 || getsockname(copy_, reinterpret_cast<sockaddr*>(&local), &size) != 0) {
    return false;
  }
  if (local.ss_family == AF_INET) {
    return port_ != 0 && ntohs(reinterpret_cast<const sockaddr_in&>(local).sin_port) == port_;
  }
  if (local.ss_family != AF_UNIX || path_.empty()) return false;
  std::string_view name(reinterpret_cast<const sockaddr_un&>(local).sun_path,
                        size - offsetof(sockaddr_un, sun_path));
  if (path_[0] != '\0') name = name.substr(0, name.find('\0'));
  return path_ == name;
}

// Not dup3, at which ThreadSanitizer tells of a race with libzmq's close. There is one: whatever
// has the number by then is copied, and IsAccepted and its id tell what that is.
bool ConnectionProbe::Copy(int fd) {
  return fd >= 0 && syscall(SYS_dup3, fd, copy_, O_CLOEXEC) >= 0;
}

template <class F>
auto ConnectionProbe::OnCopy(int fd, const F& look) {
  decltype(look()) result{};
  // Onto a descriptor that is there: needs none, and what it was before is gone in the same moment.
  if (!Copy(fd)) return result;
  if (IsAccepted()) result = look();
  Copy(nothing_);  // else libzmq's close would end nothing
  return result;
}

std::optional<ConnectionProbe::Peer> ConnectionProbe::Look(int fd) {
  return OnCopy(fd, [this]() -> std::optional<Peer> {
    sockaddr_storage remote{};
    socklen_t size = sizeof remote;
    if (getpeername(copy_, reinterpret_cast<sockaddr*>(&remote), &size) != 0) return std::nullopt;
    Peer peer{"", IdOf(copy_)};
    if (remote.ss_family != AF_INET) return peer;
    char text[INET_ADDRSTRLEN] = "";
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(remote).sin_addr, text, sizeof text);
    peer.address = text;
    return peer;
  });
}

bool ConnectionProbe::End(int fd, uint64_t id) {
  return OnCopy(fd, [&] { return IdOf(copy_) == id && shutdown(copy_, SHUT_RDWR) == 0; });
}

bool ConnectionProbe::Lend() {
  if (is_lent()) return false;
  close(std::exchange(spare_, -1));
  return true;
}

bool ConnectionProbe::TakeBack() {
  if (is_lent()) spare_ = fcntl(nothing_, F_DUPFD_CLOEXEC, 0);
  return !is_lent();
}

}  // namespace packcast::net
