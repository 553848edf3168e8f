#pragma once

#include <poll.h>

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

// The thread that serves all sockets and timers of a node. It never blocks but in its one poll, and
// runs no user code. While it sleeps another thread may take its turn, to send one message. Owned
// by its Node; the public methods are thread-safe.
class Reactor {
 public:
  explicit Reactor(Node* node);
  ~Reactor();

  // Binds and starts the thread.
  Status Start();
  // Says goodbye, closes the sockets and joins the thread. Idempotent.
  void Stop();

  const std::string& endpoint() const { return endpoint_; }

  // Hands a message over; in the order of the calls of one thread. False after Stop. `is_alone`: no
  // other will follow for a while: it leaves on the caller's thread if it can, which saves waking
  // the reactor's. Others wait for the reactor, which sends what it finds in batches.
  bool Send(Outgoing&& message, bool is_alone = false);
  // Runs `work` on the reactor's thread; it must not block. False after Stop.
  bool Post(std::function<void(Peers&)> work);
  // Makes sure that the reactor looks at its timers at `when`.
  void WakeAt(Time when);

 private:
  using Command = std::variant<Outgoing, std::function<void(Peers&)>>;

  template <class Work>  // one of the alternatives; moved, as messages are large
  bool Push(Work&& work);
  bool SendNow(Outgoing* message);
  void Run();
  bool TakeTurn();
  void RunCommands();
  void FireTimers();
  void PreparePoll();
  void Poll();
  // When something is due, at the latest.
  Time NextDue(Time now) const;

  Node* const node_;
  net::ZmqContext context_;
  net::Wakeup wakeup_;
  std::string endpoint_;
  std::thread thread_;
  std::atomic<std::thread::id> thread_id_;  // of thread_, once it runs

  // The thread has it but while it sleeps. Taken before mutex_.
  std::mutex turn_;
  std::unique_ptr<Peers> peers_;  // guarded by turn_

  std::mutex mutex_;
  std::vector<Command> commands_;
  bool is_stopping_ = false;
  // Far in the future while the thread works out when to wake: then every WakeAt raises.
  std::atomic<int64_t> sleeps_until_ns_;
  std::vector<Command> taken_;  // the thread's own: those that it runs
  std::vector<pollfd> polled_;  // the thread's own
  Duration wait_{};             // the same: how long it may sleep
  Time hot_until_{};            // the same: it looks again and again until then
};

}  // namespace packcast::internal
