#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/actor/link.h"
#include "runtime/net/wakeup.h"
#include "runtime/net/zmq_socket.h"

namespace packcast::internal {

class Node;
class Peers;

// The thread that owns all sockets and timers of a node. It never blocks but in its one poll, and
// runs no user code. Owned by its Node; the public methods are thread-safe.
class Reactor {
 public:
  explicit Reactor(Node* node);
  ~Reactor();

  // Binds and starts the thread.
  Status Start();
  // Says goodbye, closes the sockets and joins the thread. Idempotent.
  void Stop();

  const std::string& endpoint() const { return endpoint_; }

  // Hands a message over; in the order of the calls of one thread. False after Stop.
  bool Send(Outgoing message);
  // Runs `work` on the reactor's thread; it must not block. False after Stop.
  bool Post(std::function<void(Peers&)> work);
  // Makes sure that the reactor looks at its timers at `when`.
  void WakeAt(Time when);

 private:
  using Command = std::variant<Outgoing, std::function<void(Peers&)>>;

  bool Push(Command command);
  void Run();
  void RunCommands();
  void FireTimers();
  void Poll();
  // When something is due, at the latest.
  Time NextDue(Time now) const;

  Node* const node_;
  net::ZmqContext context_;
  net::Wakeup wakeup_;
  std::string endpoint_;
  std::unique_ptr<Peers> peers_;  // the thread's own
  std::thread thread_;

  std::mutex mutex_;
  std::vector<Command> commands_;
  bool is_stopping_ = false;
  // Far in the future while the thread works out when to wake: then every WakeAt raises.
  std::atomic<int64_t> sleeps_until_ns_;
  Time hot_until_{};  // the thread looks again and again until then
};

}  // namespace packcast::internal
