#include "runtime/data/buffer_ring.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "protocol/limits.h"

namespace packcast {
namespace {

class PageAllocator : public Allocator {
 public:
  StatusOr<std::byte*> Allocate(uint64_t bytes) override {
    constexpr uint64_t kPage = 4096;
    const uint64_t rounded = (bytes + kPage - 1) / kPage * kPage;
    void* data = std::aligned_alloc(kPage, rounded);
    if (data == nullptr) {
      return ResourceExhausted("no host memory for a buffer of " + std::to_string(bytes) +
                               " bytes");
    }
    return static_cast<std::byte*>(data);
  }
  void Free(std::byte* data, uint64_t) override { std::free(data); }
};

}  // namespace

Status Allocator::Copy(const std::byte* from, std::byte* to, uint64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return OkStatus();
}

Allocator* HostAllocator() {
  static PageAllocator allocator;
  return &allocator;
}

StatusOr<std::unique_ptr<BufferRing>> BufferRing::Make(uint64_t bytes, uint32_t count,
                                                       Allocator* allocator) {
  if (bytes < limits::kBufferBytesMin || bytes > limits::kBufferBytesMax) {
    return InvalidArgument("buffer size " + std::to_string(bytes) + " is out of range [" +
                           std::to_string(limits::kBufferBytesMin) + ", " +
                           std::to_string(limits::kBufferBytesMax) + "]");
  }
  if (count < limits::kBufferCountMin || count > limits::kBufferCountMax) {
    return InvalidArgument("buffer count " + std::to_string(count) + " is out of range [" +
                           std::to_string(limits::kBufferCountMin) + ", " +
                           std::to_string(limits::kBufferCountMax) + "]");
  }
  std::unique_ptr<BufferRing> ring(new BufferRing(bytes, allocator));
  for (uint32_t slot = 0; slot < count; ++slot) {
    PC_ASSIGN_OR_RETURN(std::byte* const data, allocator->Allocate(bytes));
    ring->slots_.push_back({data, bytes, State::kFree});
    ring->free_.push_back(slot);
  }
  return ring;
}

BufferRing::~BufferRing() {
  for (const Slot& slot : slots_) allocator_->Free(slot.data, slot.bytes);
}

std::optional<uint32_t> BufferRing::Acquire() {
  if (free_.empty()) return std::nullopt;
  const uint32_t slot = free_.front();
  free_.erase(free_.begin());
  slots_[slot].state = State::kFilling;
  high_water_ = std::max(high_water_, count() - static_cast<uint32_t>(free_.size()));
  return slot;
}

void BufferRing::Launch(uint32_t slot) { slots_[slot].state = State::kInFlight; }

void BufferRing::Release(uint32_t slot) {
  if (slots_[slot].state == State::kFree) return;
  slots_[slot].state = State::kFree;
  free_.push_back(slot);
}

void BufferRing::Reset() {
  free_.clear();
  for (uint32_t slot = 0; slot < count(); ++slot) {
    slots_[slot].state = State::kFree;
    free_.push_back(slot);
  }
}

Status BufferRing::Grow(uint32_t slot, uint64_t bytes, uint64_t keep) {
  Slot& grown = slots_[slot];
  if (bytes <= grown.bytes) return OkStatus();
  PC_ASSIGN_OR_RETURN(std::byte* const data, allocator_->Allocate(bytes));
  std::memcpy(data, grown.data, keep);
  allocator_->Free(grown.data, grown.bytes);
  grown.data = data;
  grown.bytes = bytes;
  return OkStatus();
}

uint64_t BufferRing::allocated_bytes() const {
  uint64_t total = 0;
  for (const Slot& slot : slots_) total += slot.bytes;
  return total;
}

}  // namespace packcast
