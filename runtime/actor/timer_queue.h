#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "protocol/time.h"
#include "runtime/actor/actor.h"

namespace packcast::internal {

class Cell;

// Timers of all actors of a node, earliest first. The reactor takes what has expired. Thread-safe.
class TimerQueue {
 public:
  struct Expired {
    TimerId id;
    std::weak_ptr<Cell> cell;
  };

  TimerId Add(Time when, std::weak_ptr<Cell> cell);
  void Cancel(TimerId id);
  std::vector<Expired> TakeExpired(Time now);
  std::optional<Time> Next() const;

 private:
  struct Entry {
    Time when;
    std::weak_ptr<Cell> cell;
  };
  mutable std::mutex mutex_;
  std::set<std::pair<Time, uint64_t>> order_;
  std::map<uint64_t, Entry> entries_;
  uint64_t last_id_ = 0;
};

}  // namespace packcast::internal
