#include "runtime/data/cancel_token.h"

#include <utility>

namespace packcast {

void CancelToken::Cancel(Status why) {
  std::lock_guard lock(mutex_);
  if (cancelled()) return;
  why_ = why.ok() ? Cancelled("cancelled") : std::move(why);
  cancelled_.store(true, std::memory_order_release);
  // Called under the lock, so that Remove waits for a callback that runs.
  for (const auto& [id, wake] : wakes_) wake();
}

Status CancelToken::status() const {
  if (!cancelled()) return OkStatus();
  std::lock_guard lock(mutex_);
  return why_;
}

uint64_t CancelToken::AddWake(std::function<void()> wake) {
  std::lock_guard lock(mutex_);
  if (cancelled()) wake();
  const uint64_t id = next_id_++;
  wakes_.emplace(id, std::move(wake));
  return id;
}

void CancelToken::RemoveWake(uint64_t id) {
  std::lock_guard lock(mutex_);
  wakes_.erase(id);
}

}  // namespace packcast
