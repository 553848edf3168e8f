#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "protocol/time.h"
#include "runtime/net/wakeup.h"

namespace packcast::zmq_bulk {

// Counts the chunks that ZeroMQ still reads from the caller's memory. Shared with its I/O thread,
// which calls Release and may outlive the collective.
class Loans {
 public:
  Loans(uint32_t size, std::shared_ptr<net::Wakeup> wake)
      : per_rank_(size), wake_(std::move(wake)) {}

  uint32_t of(uint32_t rank) const { return per_rank_[rank].load(); }

  void Lend(uint32_t rank) {
    per_rank_[rank].fetch_add(1);
    std::lock_guard lock(mutex_);
    ++total_;
  }
  void Return(uint32_t rank) {
    per_rank_[rank].fetch_sub(1);
    {
      std::lock_guard lock(mutex_);
      if (--total_ == 0) none_.notify_all();
    }
    wake_->Raise();
  }
  bool WaitForNone(Duration timeout) {
    std::unique_lock lock(mutex_);
    return none_.wait_for(lock, timeout, [this] { return total_ == 0; });
  }

 private:
  std::deque<std::atomic<uint32_t>> per_rank_;
  const std::shared_ptr<net::Wakeup> wake_;
  std::mutex mutex_;
  std::condition_variable none_;
  uint64_t total_ = 0;
};

}  // namespace packcast::zmq_bulk
