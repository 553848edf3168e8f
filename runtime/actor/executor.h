#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "protocol/time.h"

namespace packcast::internal {

// A pool of threads with two lanes. Control work has a thread of its own, wakes an idle one of the
// others and goes first there, so it never waits for default work. Owned by a Node; thread-safe.
class Executor {
 public:
  explicit Executor(int default_threads);
  // Stop must have been called.
  ~Executor();

  // False after Stop: then `work` is left as it was.
  bool Post(bool control, std::function<void()>&& work);

  // Drops queued work and ends the threads. Waits up to `patience` for those inside user code;
  // then leaves them behind (false): they touch nothing of this object any more.
  bool Stop(Duration patience);

 private:
  struct State;
  static void Run(const std::shared_ptr<State>& state, bool control_only);

  const std::shared_ptr<State> state_;
  std::vector<std::thread> threads_;
};

}  // namespace packcast::internal
