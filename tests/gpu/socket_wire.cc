#include "tests/gpu/socket_wire.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

namespace packcast::testing {
namespace {

class SocketWire final : public Wire {
 public:
  SocketWire(int socket, bool is_root) : socket_(socket), is_root_(is_root) {}

  StatusOr<bool> Up() override { return true; }
  Status Launch(const Operation& operation) override {
    waiting_.push_back(operation.spans);
    sizes_.push_back(operation.bytes());
    return Advance();
  }
  StatusOr<uint64_t> Completed() override {
    PC_RETURN_IF_ERROR(Advance());
    return completed_;
  }
  Status Abort() override { return OkStatus(); }
  void BeginAbort() override {}

 private:
  Status Advance();
  StatusOr<bool> Move(std::byte* data, uint64_t bytes, uint64_t* done);

  const int socket_;
  const bool is_root_;
  std::deque<std::vector<Span>> waiting_;
  std::deque<uint64_t> sizes_;
  uint64_t header_ = 0;
  uint64_t header_done_ = 0;
  size_t span_ = 0;  // of the first that waits
  uint64_t span_done_ = 0;
  uint64_t completed_ = 0;
};

// As much as the socket takes or has now. True when all is through.
StatusOr<bool> SocketWire::Move(std::byte* data, uint64_t bytes, uint64_t* done) {
  while (*done < bytes) {
    std::byte* const at = data + *done;
    const ssize_t part = is_root_ ? send(socket_, at, bytes - *done, MSG_DONTWAIT | MSG_NOSIGNAL)
                                  : recv(socket_, at, bytes - *done, MSG_DONTWAIT);
    if (part < 0 && errno == EINTR) continue;
    if (part < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (part < 0) return Unavailable("the other rank is gone: " + std::string(strerror(errno)));
    if (part == 0) return Unavailable("the other rank is gone");
    *done += static_cast<uint64_t>(part);
  }
  return true;
}

Status SocketWire::Advance() {
  while (!waiting_.empty()) {
    if (is_root_) header_ = sizes_.front();
    PC_ASSIGN_OR_RETURN(const bool began, Move(reinterpret_cast<std::byte*>(&header_),
                                               sizeof header_, &header_done_));
    if (!began) return OkStatus();
    if (header_ != sizes_.front()) {
      return Internal("broadcast " + std::to_string(completed_) + " has " +
                      std::to_string(header_) + " bytes at the root, " +
                      std::to_string(sizes_.front()) + " here");
    }
    const std::vector<Span>& spans = waiting_.front();
    for (; span_ < spans.size(); ++span_, span_done_ = 0) {
      PC_ASSIGN_OR_RETURN(const bool moved,
                          Move(spans[span_].data, spans[span_].bytes, &span_done_));
      if (!moved) return OkStatus();
    }
    waiting_.pop_front();
    sizes_.pop_front();
    header_done_ = 0;
    span_ = 0;
    ++completed_;
  }
  return OkStatus();
}

}  // namespace

std::unique_ptr<Wire> MakeSocketWire(int socket, bool is_root) {
  return std::make_unique<SocketWire>(socket, is_root);
}

}  // namespace packcast::testing
