#pragma once

#include <poll.h>

#include <atomic>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/net/wakeup.h"

namespace packcast::testing {

// A bad network: carries the bytes of TCP connections from its own port to another one, as long as
// it is told to. Its faults are those that a receiver can meet: a connection that ends after any
// byte, one that stands and carries nothing, one that is refused. Thread-safe.
class FaultyProxy {
 public:
  // `target`: "tcp://127.0.0.1:5555". It must listen already.
  explicit FaultyProxy(const std::string& target);
  ~FaultyProxy();

  // Where to connect instead.
  std::string endpoint() const;
  // Ends all connections: in the middle of what they carry.
  void Cut();
  // Bytes wait, in one direction or in both, until told otherwise.
  void Stall(bool to_target, bool to_source);
  // New connections are closed at once, until told otherwise.
  void Refuse(bool on);

 private:
  struct Way {
    int from = -1;
    int to = -1;
    std::string waiting;  // read and not yet written
    bool is_over = false;
  };
  struct Connection {
    int source = -1;
    int target = -1;
    Way ways[2];  // to the target, to the source
  };

  void Run();
  void Accept();
  bool Carry(Way* way, bool is_stalled);
  static void Close(Connection* connection);

  int listener_ = -1;
  uint16_t port_ = 0;
  uint16_t target_port_ = 0;
  net::Wakeup wakeup_;
  std::atomic<bool> is_ending_{false};
  std::atomic<bool> is_cutting_{false};
  std::atomic<bool> is_refusing_{false};
  std::atomic<bool> is_stalled_[2] = {false, false};
  std::list<Connection> connections_;  // the thread's own
  std::thread thread_;
};

}  // namespace packcast::testing
