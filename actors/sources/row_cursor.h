#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "actors/weight_source.h"
#include "protocol/manifest.h"
#include "protocol/status.h"

namespace packcast {

// How many groups of a source are with readers: entered and not yet released, over all cursors.
using GroupsInUse = std::shared_ptr<std::atomic<int64_t>>;

// Walks rows that lie in memory for as long as the source lives: contiguous, one tensor a
// group, group number = row. Owned by who opened it, driven by one thread; the source, whose
// manifest and row addresses it reads, must outlive it. Groups that were not released when it goes
// away count as released.
class RowCursor : public Cursor {
 public:
  RowCursor(const Manifest* manifest, const std::vector<const std::byte*>* rows,
            GroupsInUse in_use);
  ~RowCursor() override;

  // kAborted after StopAt.
  StatusOr<TensorGroup> Next() override;
  uint64_t bytes_ahead() const override { return kNoLimit; }
  void Release(uint64_t group) override;
  // Always ends the walk. Errors: kInvalidArgument for a group beyond the last one,
  // kFailedPrecondition for one before a group that was entered here already.
  Status StopAt(uint64_t group) override;

 private:
  const Manifest* const manifest_;
  const std::vector<const std::byte*>* const rows_;
  const GroupsInUse in_use_;
  uint64_t next_ = 0;
  bool stopped_ = false;
  std::vector<bool> held_;  // per group: entered and not released
};

// OK for full syncs, the only kind these sources know; else kUnimplemented.
Status CheckFullSync(const SyncRequest& request);

}  // namespace packcast
