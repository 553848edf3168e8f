#include "runtime/net/listener.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace packcast::net {
namespace {

bool ListensAt(int fd, const std::string& endpoint) {
  int listens = 0;
  socklen_t size = sizeof listens;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) return false;
  sockaddr_in bound{};
  size = sizeof bound;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return false;
  if (bound.sin_family != AF_INET) return false;
  char address[INET_ADDRSTRLEN] = {};
  inet_ntop(AF_INET, &bound.sin_addr, address, sizeof address);
  return "tcp://" + std::string(address) + ":" + std::to_string(ntohs(bound.sin_port)) == endpoint;
}

// The descriptors of this process.
StatusOr<std::vector<int>> Descriptors() {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir("/proc/self/fd"), closedir);
  if (folder == nullptr) {
    return Unavailable(std::string("cannot list the descriptors: ") + std::strerror(errno));
  }
  std::vector<int> fds;
  while (const dirent* entry = readdir(folder.get())) {
    if (entry->d_name[0] != '.') fds.push_back(std::atoi(entry->d_name));
  }
  return fds;
}

// Sets what an option of the listener is to be.
Status Set(const std::string& endpoint, int level, int option, const void* value, socklen_t size) {
  PC_ASSIGN_OR_RETURN(const std::vector<int> fds, Descriptors());
  for (const int fd : fds) {
    if (!ListensAt(fd, endpoint)) continue;
    if (setsockopt(fd, level, option, value, size) == 0) return OkStatus();
    return Unavailable("option " + std::to_string(option) + " of the socket at " + endpoint + ": " +
                       std::strerror(errno));
  }
  return NotFound("nothing of this process listens at " + endpoint);
}

}  // namespace

Status DeferAccept(const std::string& endpoint, Duration patience) {
  const int seconds = static_cast<int>(ToMilliseconds(patience) / 1000);
  return Set(endpoint, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds);
}

Status CloseDoor(const std::string& endpoint) {
  sock_filter drop_all[] = {{BPF_RET | BPF_K, 0, 0, 0}};
  const sock_fprog filter = {1, drop_all};
  return Set(endpoint, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
}

}  // namespace packcast::net
