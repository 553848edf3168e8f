#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "actors/sources/row_cursor.h"
#include "actors/sources/row_memory.h"
#include "actors/weight_source.h"
#include "protocol/status.h"
#include "runtime/data/buffer_ring.h"

namespace packcast {

// Another source's weights in other memory, such as a device's: copied whenever a sync describes
// them. Owns the copies. Used by the thread that drives the trainer; `source` and `memory` outlive
// it.
class CopiedSource : public WeightSource {
 public:
  CopiedSource(WeightSource* source, Allocator* memory) : source_(source), memory_(memory) {}

  // Errors: the source's, the allocator's; kUnimplemented for tensors that are strided, converted
  // or not in the host's memory.
  StatusOr<Manifest> Describe(const SyncRequest& request) override;
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) override;

 private:
  Status CopyAll();

  WeightSource* const source_;
  Allocator* const memory_;
  Manifest manifest_;
  std::unique_ptr<RowMemory> copies_;
  std::vector<const std::byte*> rows_;
  const GroupsInUse in_use_ = std::make_shared<std::atomic<int64_t>>(0);
};

// Copies all rows that `cursor` walks into `memory`, which may be of a device. Errors as above.
Status CopyRows(Cursor& cursor, const Manifest& manifest, const RowMemory& memory,
                Allocator* allocator);

}  // namespace packcast
