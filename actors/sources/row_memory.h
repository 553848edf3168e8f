#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "protocol/manifest.h"
#include "protocol/status.h"
#include "runtime/data/buffer_ring.h"

namespace packcast {

// Zeroed private memory for all rows of a manifest, in one anonymous mapping, each row at a
// multiple of 256 bytes. Pages are taken when they are first written. Owns the mapping; move-only,
// addresses survive a move. No synchronisation: who writes sees to it that nobody reads.
class RowMemory {
 public:
  // kResourceExhausted, with `purpose` and the bytes asked for, when the system has not enough.
  // `allocator`, when given, is where the memory comes from (a device, say), and outlives it; that
  // memory is not zeroed.
  static StatusOr<RowMemory> Allocate(const Manifest& manifest, const std::string& purpose,
                                      Allocator* allocator = nullptr);

  size_t size() const { return rows_.size(); }
  // A row's bytes; an empty span for a row without any.
  std::span<std::byte> row(size_t k) const { return rows_[k]; }
  // Bytes of the mapping, alignment included.
  uint64_t mapped_bytes() const { return mapped_bytes_; }

 private:
  struct Unmap {
    size_t size;
    Allocator* allocator;
    void operator()(std::byte* data) const;
  };
  static StatusOr<std::byte*> Map(uint64_t bytes);
  RowMemory() = default;

  std::unique_ptr<std::byte[], Unmap> data_;
  uint64_t mapped_bytes_ = 0;
  std::vector<std::span<std::byte>> rows_;
};

}  // namespace packcast
