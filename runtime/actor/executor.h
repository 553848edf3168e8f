#pragma once

#include <functional>
#include <memory>

#include "protocol/status.h"
#include "protocol/time.h"

namespace packcast::internal {

// A pool of threads with two lanes. Control work has a thread of its own, wakes an idle one of the
// others and goes first there, so it never waits for default work. Owned by a Node; thread-safe.
class Executor {
 public:
  // Of all threads that AddThreads can make it.
  static constexpr int kMostThreads = 1024;

  Executor();
  // Stop must have been called.
  ~Executor();

  // Once, before all else but Post. Errors: kResourceExhausted (no more threads than some).
  Status Start(int default_threads);

  // False after Stop: then `work` is left as it was.
  bool Post(bool control, std::function<void()>&& work);

  // More threads for default work, for an actor that may handle several messages at once: these
  // must not take the threads of others. Errors: kResourceExhausted (more than kMostThreads, or
  // than the system gives), and nothing has changed.
  Status AddThreads(int count);
  // The actor has gone: as many end, once they have nothing to do.
  void RemoveThreads(int count);

  // Drops queued default work, does what control work is queued, and ends the threads. Waits up to
  // `patience` for those inside user code; then leaves them behind (false): they touch nothing of
  // this object any more.
  bool Stop(Duration patience);

 private:
  struct State;
  static void Run(const std::shared_ptr<State>& state, bool control_only);
  Status Launch(bool control_only);  // needs the state's mutex

  const std::shared_ptr<State> state_;
};

}  // namespace packcast::internal
