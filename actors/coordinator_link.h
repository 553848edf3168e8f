#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "protocol/status.h"
#include "runtime/actor/actor_ref.h"
#include "runtime/actor/runtime.h"

namespace packcast {

// Finds the coordinator and, after its death, the next one at the same address: Runtime::Connect
// waits, so it has a thread of its own. Owned by a member's shell. Thread-safe.
class CoordinatorLink {
 public:
  // On the link's thread: `up` is called with each new coordinator, `refused` when a search after
  // the first one is hopeless (kStale: this name was started again, and that life counts); it ends
  // the search. `runtime` outlives the link.
  CoordinatorLink(Runtime* runtime, std::string endpoint, std::function<void(ActorRef)> up,
                  std::function<void(const Status&)> refused);
  ~CoordinatorLink();
  CoordinatorLink(const CoordinatorLink&) = delete;
  CoordinatorLink& operator=(const CoordinatorLink&) = delete;

  // Looks for a coordinator, now and until one is found.
  void Search();
  // The first search's result, within `timeout`; permanent refusals (wrong version or cluster)
  // come at once.
  Status WaitFirst(Duration timeout);

 private:
  void Loop();

  Runtime* const runtime_;
  const std::string endpoint_;
  const std::function<void(ActorRef)> up_;
  const std::function<void(const Status&)> refused_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool search_ = true;
  bool stopping_ = false;
  bool found_once_ = false;
  Status last_error_;
  std::thread thread_;
};

}  // namespace packcast
