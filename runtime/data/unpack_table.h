#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "protocol/manifest.h"
#include "protocol/plan.h"
#include "protocol/status.h"
#include "runtime/data/copy_piece.h"
#include "runtime/data/target_map.h"

namespace packcast {

// A member's copy work for every step of a plan, worked out once for a plan and its targets and
// used in every epoch. Immutable; borrows the targets' memory.
class UnpackTable {
 public:
  // Errors: CheckTarget's; kFailedPrecondition, naming the row, for one that travels direct and has
  // not one piece of memory to go to.
  static StatusOr<UnpackTable> Make(const Manifest& manifest, const Plan& plan,
                                    const TargetMap& targets, bool hash);

  // The pieces of a step, in order. Of a packed step `from` is null: the bytes stand at the
  // buffer's byte offsets(step).
  std::span<const CopyPiece> pieces(size_t step) const { return Part(pieces_, step); }
  std::span<const uint64_t> offsets(size_t step) const { return Part(offsets_, step); }
  // Where a region of a direct step goes.
  std::byte* memory(uint32_t region) const { return memory_[region]; }
  // Rows that a callback is shown, ascending.
  const std::vector<uint32_t>& callback_rows() const { return callback_rows_; }

 private:
  class Builder;
  template <class T>
  std::span<const T> Part(const std::vector<T>& all, size_t step) const {
    return std::span<const T>(all).subspan(begins_[step], begins_[step + 1] - begins_[step]);
  }

  std::vector<CopyPiece> pieces_;
  std::vector<uint64_t> offsets_;
  std::vector<size_t> begins_;
  std::vector<std::byte*> memory_;
  std::vector<uint32_t> callback_rows_;
};

}  // namespace packcast
