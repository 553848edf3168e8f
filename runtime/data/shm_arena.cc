#include "runtime/data/shm_arena.h"

#include <iterator>
#include <utility>

namespace packcast {

StatusOr<std::byte*> ShmArena::Allocate(uint64_t bytes) {
  PC_ASSIGN_OR_RETURN(std::unique_ptr<ShmSegment> segment, ShmSegment::Make(bytes));
  std::byte* const data = segment->data();
  std::lock_guard lock(mutex_);
  segments_[data] = std::move(segment);
  return data;
}

void ShmArena::Free(std::byte* data, uint64_t) {
  std::lock_guard lock(mutex_);
  segments_.erase(data);
}

std::optional<ShmPlace> ShmArena::Find(const std::byte* data, uint64_t bytes) const {
  std::lock_guard lock(mutex_);
  const auto after = segments_.upper_bound(data);
  if (after == segments_.begin()) return std::nullopt;
  const ShmSegment& segment = *std::prev(after)->second;
  const auto offset = static_cast<uint64_t>(data - segment.data());
  if (offset > segment.bytes() || bytes > segment.bytes() - offset) return std::nullopt;
  return ShmPlace{segment.fd(), segment.inode(), segment.bytes(), offset};
}

}  // namespace packcast
