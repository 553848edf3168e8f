#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "protocol/status.h"
#include "runtime/base/spin.h"
#include "runtime/data/cancel_token.h"

namespace packcast {

// The one thread of a device that packs, launches and polls: runs jobs one after the other in the
// order they came. Owned by an actor's shell. Thread-safe, except that the destructor must not run
// on the thread itself.
class DataThread {
 public:
  // What a job gets: stop when `cancel` says so; call `beat` now and then to show life.
  struct Context {
    CancelToken* cancel;
    std::atomic<uint64_t>* beats;
    void Beat() const { beats->fetch_add(1, std::memory_order_relaxed); }
  };
  // Runs on the data thread and delays all others there: it must look at `cancel` and not wait
  // without bound. Must not throw. Destroyed on that thread, right after it ran.
  using Job = std::function<void(const Context&)>;

  // `queue_max`: jobs that wait, at most.
  explicit DataThread(std::string name, size_t queue_max = 16);
  // Cancels what runs and what waits (kCancelled; waiting jobs still run, to report it) and joins.
  ~DataThread();
  DataThread(const DataThread&) = delete;
  DataThread& operator=(const DataThread&) = delete;

  // The job's token, to cancel it by. Every accepted job runs exactly once, also when cancelled
  // before its turn. kResourceExhausted when the queue is full, kCancelled while shutting down.
  StatusOr<std::shared_ptr<CancelToken>> Submit(Job job);

  // Grows while the thread is alive and its job calls Beat; compare two readings while busy().
  uint64_t beats() const { return beats_.load(std::memory_order_relaxed); }
  bool busy() const { return busy_.load(std::memory_order_acquire); }
  size_t queued() const;

 private:
  struct Entry {
    Job job;
    std::shared_ptr<CancelToken> token;
  };
  void Loop();

  const std::string name_;
  const size_t queue_max_;
  std::atomic<uint64_t> beats_{0};
  std::atomic<bool> busy_{false};
  mutable std::mutex mutex_;
  SpinCondition changed_;
  std::deque<Entry> queue_;
  std::shared_ptr<CancelToken> running_;
  bool stopping_ = false;
  std::thread thread_;  // last: starts when all else is ready
};

}  // namespace packcast
