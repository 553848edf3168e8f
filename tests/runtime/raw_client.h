#pragma once

// Connections by hand, for tests of what a listener of ZeroMQ does with strangers.
#include <arpa/inet.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "tests/runtime/test_util.h"

namespace packcast::testing {

// A stream to a listener at tcp://127.0.0.1:PORT or ipc://PATH.
class RawClient {
 public:
  explicit RawClient(const std::string& endpoint) {
    const bool is_ipc = endpoint.starts_with("ipc://");
    fd_ = socket(is_ipc ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int result = 0;
    if (is_ipc) {
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::string path = endpoint.substr(6);
      if (path[0] == '@') path[0] = '\0';
      std::memcpy(address.sun_path, path.data(), path.size());
      const size_t length = offsetof(sockaddr_un, sun_path) + path.size();
      result = connect(fd_, reinterpret_cast<sockaddr*>(&address), static_cast<socklen_t>(length));
    } else {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      address.sin_port =
          htons(static_cast<uint16_t>(std::atoi(endpoint.substr(endpoint.rfind(':') + 1).c_str())));
      result = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address);
    }
    if (result != 0) {
      std::perror(endpoint.c_str());
      std::abort();
    }
  }
  RawClient(RawClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~RawClient() {
    if (fd_ >= 0) close(fd_);
  }

  // False: the other side has closed it.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // ZMTP 3.0 with the mechanism NULL, as a DEALER.
  bool Greet() {
    const std::string greeting = std::string("\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL", 16);
    const std::string ready("\5READY\x0bSocket-Type\0\0\0\6DEALER", 28);
    return Send(greeting + std::string(48, '\0') + '\4' + static_cast<char>(ready.size()) + ready);
  }
  // And the answer, before which anything else is an error to libzmq. False: it wants none of it.
  bool Introduce() {
    char theirs[256];
    return Greet() && Read(theirs, 64 + 2) && Read(theirs, static_cast<uint8_t>(theirs[65]));
  }
  // A message of one short frame.
  bool SendFrame(std::string_view bytes) {
    return Send(std::string(1, '\0') + static_cast<char>(bytes.size()) + std::string(bytes));
  }
  // Reads what is there; true once the other side has closed it.
  bool HasEnded() {
    char buffer[4096];
    while (true) {
      const ssize_t got = recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno == ECONNRESET)) return true;
      if (got < 0) return false;
    }
  }
  // All that comes until then.
  std::string ReadToEnd() {
    std::string all;
    char buffer[4096];
    ssize_t got = 0;
    while ((got = recv(fd_, buffer, sizeof buffer, 0)) > 0)
      all.append(buffer, static_cast<size_t>(got));
    return all;
  }
  // Waits for that.
  bool Ends() { return EndsWithin(ToMilliseconds(kPatience)); }
  bool EndsWithin(int64_t milliseconds) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
    while (!HasEnded()) {
      if (std::chrono::steady_clock::now() >= give_up) return false;
      pollfd item = {fd_, POLLIN, 0};
      poll(&item, 1, 10);
    }
    return true;
  }

 private:
  bool Read(char* bytes, size_t size) {
    return recv(fd_, bytes, size, MSG_WAITALL) == static_cast<ssize_t>(size);
  }
  int fd_ = -1;
};

// Lets this process, and those that it starts, open descriptors below `limit` only.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t limit) {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit changed = before_;
    changed.rlim_cur = std::min(limit, before_.rlim_max);
    setrlimit(RLIMIT_NOFILE, &changed);
  }
  ~DescriptorLimit() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_ = {};
};

}  // namespace packcast::testing
