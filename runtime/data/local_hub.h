#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "runtime/data/collective.h"
#include "runtime/data/span_cursor.h"
#include "runtime/data/stream_ledger.h"

namespace packcast::local {

// An operation of the root, while a member still copies from it.
struct RootOperation {
  Operation operation;
  uint32_t members_left = 0;
};

// An operation of a member that is being filled.
struct MemberOperation {
  Operation operation;
  SpanCursor from;
  SpanCursor to;
};

// One rank's part of a generation.
struct RankEnd {
  explicit RankEnd(std::string self) : ledger(std::move(self)) {}
  bool joined = false;
  bool left = false;     // its collective is gone
  bool copying = false;  // in a memcpy, outside the lock
  bool woken = false;
  uint64_t seen = 0;  // Hub::changes at its last Poll
  std::optional<StreamId> stream;
  MemberLedger ledger;  // members only
  std::deque<MemberOperation> operations;
  CollectiveProgress progress;
};

// All ranks of one generation; shared by their collectives.
struct Hub {
  Hub(uint32_t size_in, uint32_t root_in)
      : size(size_in), root(root_in), root_ledger(size_in, root_in) {}

  const uint32_t size;
  const uint32_t root;
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t changes = 0;
  Status broken;  // the first failure, for everybody
  std::deque<std::unique_ptr<RankEnd>> ends;
  RootLedger root_ledger;
  std::deque<RootOperation> operations;  // launched and not complete, from root_ledger.completed()

  void Changed() {
    ++changes;
    changed.notify_all();
  }
  bool AnyoneCopies() const {
    return std::any_of(ends.begin(), ends.end(), [](const auto& end) { return end->copying; });
  }
};

}  // namespace packcast::local
