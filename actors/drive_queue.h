#pragma once

#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "protocol/time.h"
#include "runtime/base/spin.h"

namespace packcast {

// Work for the user's own thread: shells post callbacks into source and sink, the thread that
// drives the member runs them in order, one at a time. Thread-safe; Drive from one thread at a
// time. Its length is bounded by the machines: they have one piece of work open at a time.
class DriveQueue {
 public:
  using Work = std::function<void()>;

  void Post(Work work);
  // Makes a Drive that waits return.
  void Wake();
  // Runs what is there; if nothing is, waits up to `max_wait` for the first. Returns the number of
  // pieces run.
  size_t Drive(Duration max_wait);
  // Drops what is queued and everything posted later, and waits for the piece that runs, unless
  // that is what calls: afterwards no piece touches anything any more.
  void Close();
  // For a piece that ran the user's code, which may have closed the queue.
  bool closed() const;

 private:
  mutable std::mutex mutex_;
  SpinCondition changed_;
  std::deque<Work> queue_;
  bool woken_ = false;
  bool closed_ = false;
  std::thread::id running_;  // who runs a piece; nobody: the default one
};

}  // namespace packcast
