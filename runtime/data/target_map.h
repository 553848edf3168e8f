#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "protocol/manifest.h"
#include "protocol/status.h"

namespace packcast {

// Where one row's bytes go at a consumer.
struct RowTarget {
  enum class Kind : uint8_t {
    kMemory,    // copied into `pieces`
    kCallback,  // shown in the buffer to the consumer's callback
    kSkip,      // received and verified, not kept
  };
  // `bytes` bytes of the row from byte `offset` go to `data`.
  struct Piece {
    uint64_t offset = 0;
    uint64_t bytes = 0;
    std::byte* data = nullptr;
  };
  Kind kind = Kind::kCallback;
  std::vector<Piece> pieces;  // memory: ascending, disjoint; what none covers is skipped
};

// One piece that takes the whole row.
RowTarget MemoryTarget(std::byte* data, uint64_t bytes);

// The targets of all rows, by number or by name (a number wins). Rows without an entry have the
// default kind. Immutable during a run, so many runs and threads may share it then.
class TargetMap {
 public:
  explicit TargetMap(RowTarget::Kind fallback = RowTarget::Kind::kCallback) {
    fallback_.kind = fallback;
  }
  void SetRow(uint32_t row, RowTarget target);
  void SetName(std::string name, RowTarget target);

  const RowTarget& Find(uint32_t row, const std::string& name) const;

  // Names this content in this process: maps with one serial have the same targets. For those who
  // keep what they worked out of a map.
  uint64_t serial() const { return serial_; }

 private:
  static uint64_t NextSerial();

  uint64_t serial_ = NextSerial();
  RowTarget fallback_;
  std::unordered_map<uint32_t, RowTarget> by_row_;
  std::unordered_map<std::string, RowTarget> by_name_;
};

// Errors (kInvalidArgument) name the row: pieces that overlap, exceed the row, or have no memory;
// with `whole`, also pieces that leave a gap.
Status CheckTarget(const Row& row, uint64_t row_bytes, const RowTarget& target, bool whole);

}  // namespace packcast
