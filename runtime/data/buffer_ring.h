#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "protocol/status.h"

namespace packcast {

// Where buffers come from: the host's memory or a device's. Implementations are thread-safe.
class Allocator {
 public:
  virtual ~Allocator() = default;
  // At least `bytes` (> 0) bytes, aligned to 256 or more; contents are undefined.
  virtual StatusOr<std::byte*> Allocate(uint64_t bytes) = 0;
  virtual void Free(std::byte* data, uint64_t bytes) = 0;
  // Bytes that Allocate could still give; 0: not known.
  virtual uint64_t FreeBytes() const { return 0; }
  // Copies between this memory and the host's, either way or within one; returns when done.
  virtual Status Copy(const std::byte* from, std::byte* to, uint64_t bytes);
};

// Page-aligned (4096) host memory; lives for ever.
Allocator* HostAllocator();

// The buffers of one packed broadcast's end: `count` of exactly `bytes` bytes, allocated at once
// and freed with the ring. Owned by the producer or consumer, or by an actor that keeps it over
// epochs and lends it. One thread at a time.
class BufferRing {
 public:
  enum class State : uint8_t { kFree, kFilling, kInFlight };

  // Errors: kInvalidArgument outside limits::kBuffer*; the allocator's, when memory is short.
  static StatusOr<std::unique_ptr<BufferRing>> Make(uint64_t bytes, uint32_t count,
                                                    Allocator* allocator = HostAllocator());
  ~BufferRing();
  BufferRing(const BufferRing&) = delete;
  BufferRing& operator=(const BufferRing&) = delete;

  // Takes the buffer that has been free the longest: free -> filling. Nothing when none is free.
  std::optional<uint32_t> Acquire();
  // filling -> in flight.
  void Launch(uint32_t slot);
  // filling or in flight -> free.
  void Release(uint32_t slot);
  // Everything becomes free, and the first slot is the next: streams of few steps take the same
  // ones always, which others have mapped. Only when no operation uses a buffer any more.
  void Reset();

  // Compat layout only: makes a buffer that is being filled hold `bytes`, keeping its first `keep`
  // bytes. Buffers grow and never shrink; the aligned layout never needs it.
  Status Grow(uint32_t slot, uint64_t bytes, uint64_t keep);

  std::byte* data(uint32_t slot) const { return slots_[slot].data; }
  uint64_t capacity(uint32_t slot) const { return slots_[slot].bytes; }
  State state(uint32_t slot) const { return slots_[slot].state; }
  uint64_t bytes() const { return bytes_; }
  uint32_t count() const { return static_cast<uint32_t>(slots_.size()); }

  // Sum over buffers now; size x count unless something grew.
  uint64_t allocated_bytes() const;
  // Buffers that were not free at one time, at most.
  uint32_t high_water() const { return high_water_; }

 private:
  struct Slot {
    std::byte* data = nullptr;
    uint64_t bytes = 0;
    State state = State::kFree;
  };
  BufferRing(uint64_t bytes, Allocator* allocator) : bytes_(bytes), allocator_(allocator) {}

  const uint64_t bytes_;
  Allocator* const allocator_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;  // oldest first
  uint32_t high_water_ = 0;
};

}  // namespace packcast
