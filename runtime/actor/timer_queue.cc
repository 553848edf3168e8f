#include "runtime/actor/timer_queue.h"

namespace packcast::internal {

TimerId TimerQueue::Add(Time when, std::weak_ptr<Cell> cell) {
  std::lock_guard lock(mutex_);
  const uint64_t id = ++last_id_;
  order_.emplace(when, id);
  entries_.emplace(id, Entry{when, std::move(cell)});
  return TimerId(id);
}

void TimerQueue::Cancel(TimerId id) {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(id.value);
  if (found == entries_.end()) return;
  order_.erase({found->second.when, id.value});
  entries_.erase(found);
}

std::vector<TimerQueue::Expired> TimerQueue::TakeExpired(Time now) {
  std::vector<Expired> expired;
  std::lock_guard lock(mutex_);
  while (!order_.empty() && order_.begin()->first <= now) {
    const uint64_t id = order_.begin()->second;
    const auto found = entries_.find(id);
    expired.push_back({TimerId(id), std::move(found->second.cell)});
    entries_.erase(found);
    order_.erase(order_.begin());
  }
  return expired;
}

std::optional<Time> TimerQueue::Next() const {
  std::lock_guard lock(mutex_);
  if (order_.empty()) return std::nullopt;
  return order_.begin()->first;
}

}  // namespace packcast::internal
