#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "protocol/status.h"
#include "runtime/data/buffer_ring.h"
#include "runtime/data/shm_segment.h"

namespace packcast {

// Where bytes of the root lie: in the buffer of `bytes` bytes that is its descriptor `fd` with this
// inode, from byte `offset` on.
struct ShmPlace {
  uint64_t fd = 0;
  uint64_t inode = 0;
  uint64_t bytes = 0;
  uint64_t offset = 0;
};

// Buffers that other processes can read: one segment each, so that a freed one is gone as soon as
// nobody has it mapped any more. Thread-safe.
class ShmArena final : public Allocator {
 public:
  StatusOr<std::byte*> Allocate(uint64_t bytes) override;
  void Free(std::byte* data, uint64_t bytes) override;

  // Nothing when [data, data + bytes) is not within one buffer.
  std::optional<ShmPlace> Find(const std::byte* data, uint64_t bytes) const;

 private:
  mutable std::mutex mutex_;
  std::map<const std::byte*, std::unique_ptr<ShmSegment>> segments_;  // by where they begin
};

}  // namespace packcast
