#include "runtime/data/target_map.h"

#include <atomic>
#include <utility>

namespace packcast {

RowTarget MemoryTarget(std::byte* data, uint64_t bytes) {
  return {.kind = RowTarget::Kind::kMemory, .pieces = {{0, bytes, data}}};
}

uint64_t TargetMap::NextSerial() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1) + 1;
}

void TargetMap::SetRow(uint32_t row, RowTarget target) {
  by_row_[row] = std::move(target);
  serial_ = NextSerial();
}

void TargetMap::SetName(std::string name, RowTarget target) {
  by_name_[std::move(name)] = std::move(target);
  serial_ = NextSerial();
}

const RowTarget& TargetMap::Find(uint32_t row, const std::string& name) const {
  if (const auto found = by_row_.find(row); found != by_row_.end()) return found->second;
  if (const auto found = by_name_.find(name); found != by_name_.end()) return found->second;
  return fallback_;
}

Status CheckTarget(const Row& row, uint64_t row_bytes, const RowTarget& target, bool whole) {
  if (target.kind != RowTarget::Kind::kMemory) {
    if (!whole) return OkStatus();
    return InvalidArgument("tensor \"" + row.name + "\" travels direct and needs memory to go to");
  }
  uint64_t end = 0;
  for (const RowTarget::Piece& piece : target.pieces) {
    const std::string where = "target of tensor \"" + row.name + "\": the piece of " +
                              std::to_string(piece.bytes) + " bytes at " +
                              std::to_string(piece.offset);
    if (piece.offset < end) return InvalidArgument(where + " overlaps the one before");
    if (piece.offset > row_bytes || piece.bytes > row_bytes - piece.offset) {
      return InvalidArgument(where + " exceeds the row's " + std::to_string(row_bytes) + " bytes");
    }
    if (piece.bytes > 0 && piece.data == nullptr) return InvalidArgument(where + " has no memory");
    if (whole && piece.offset != end) return InvalidArgument(where + " leaves a gap before it");
    end = piece.offset + piece.bytes;
  }
  if (whole && end != row_bytes) {
    return InvalidArgument("target of tensor \"" + row.name + "\" takes " + std::to_string(end) +
                           " of " + std::to_string(row_bytes) + " bytes");
  }
  return OkStatus();
}

}  // namespace packcast
