#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>

#include "protocol/status.h"

namespace packcast {

// A request to stop, from any thread to the thread that works. The first Cancel wins; it runs the
// wake callbacks that are registered then. Thread-safe.
class CancelToken {
 public:
  // `why` becomes the work's status; must not be OK.
  void Cancel(Status why);
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }
  // OK until cancelled.
  Status status() const;

  // Runs `wake` on Cancel, on the cancelling thread; at once when already cancelled. `wake` must
  // be quick and must not use the token. After Remove has returned it is not running.
  uint64_t AddWake(std::function<void()> wake);
  void RemoveWake(uint64_t id);

 private:
  std::atomic<bool> cancelled_{false};
  mutable std::mutex mutex_;
  Status why_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::function<void()>> wakes_;
};

// Registers a wake callback for as long as it lives. `token` may be null.
class ScopedWake {
 public:
  ScopedWake(CancelToken* token, std::function<void()> wake)
      : token_(token), id_(token != nullptr ? token->AddWake(std::move(wake)) : 0) {}
  ~ScopedWake() {
    if (token_ != nullptr) token_->RemoveWake(id_);
  }
  ScopedWake(const ScopedWake&) = delete;
  ScopedWake& operator=(const ScopedWake&) = delete;

 private:
  CancelToken* token_;
  uint64_t id_;
};

}  // namespace packcast
