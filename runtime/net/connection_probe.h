#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "protocol/status.h"

namespace packcast::net {

// Looks at connections that a listener of libzmq has accepted, and ends them, by the descriptors
// that its monitor tells. Those are libzmq's: it may close one at any moment, and the system give
// its number to something else at once. So all is done on a copy, and only to what is by its own
// address a connection of that listener. Used by one thread.
class ConnectionProbe {
 public:
  struct Peer {
    std::string address;  // without its port; "" when it is not by TCP
    uint64_t id = 0;      // another one for what has that descriptor later
  };

  // `endpoint`: where the listener is bound, as ZmqSocket::Bind returns it. Errors:
  // kResourceExhausted (descriptors).
  static StatusOr<ConnectionProbe> Open(const std::string& endpoint);
  ConnectionProbe(ConnectionProbe&& other) noexcept;
  ConnectionProbe& operator=(ConnectionProbe&&) = delete;
  ~ConnectionProbe();

  // Nothing when it is over already.
  std::optional<Peer> Look(int fd);
  // libzmq reads its end and closes it. False when it is over already.
  bool End(int fd, uint64_t id);

  // Without a descriptor libzmq cannot accept what waits, and tries again and again. So it is lent
  // one, for a connection in whose place another must then be ended, or it. False when it is lent
  // already.
  bool Lend();
  bool is_lent() const { return spare_ < 0; }
  // Once that is over. False when somebody else has it now: try later.
  bool TakeBack();

 private:
  ConnectionProbe() = default;
  bool Copy(int fd);
  // Whether the copy is a connection of the listener.
  bool IsAccepted() const;
  template <class F>
  auto OnCopy(int fd, const F& look);

  uint16_t port_ = 0;
  std::string path_;  // of ipc://
  int nothing_ = -1;  // /dev/null
  int copy_ = -1;     // of the descriptor that is looked at; else of that
  int spare_ = -1;
};

}  // namespace packcast::net
