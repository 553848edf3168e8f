#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "protocol/digest.h"
#include "runtime/data/target_map.h"

namespace packcast {

// Calls visit(offset in row, memory, bytes) for the parts of a target's pieces that lie in bytes
// [offset, offset + bytes) of the row, in order.
template <class Visit>
void ForEachPiece(const RowTarget& target, uint64_t offset, uint64_t bytes, Visit visit) {
  const uint64_t end = offset + bytes;
  auto piece = std::partition_point(
      target.pieces.begin(), target.pieces.end(),
      [offset](const RowTarget::Piece& p) { return p.offset + p.bytes <= offset; });
  for (; piece != target.pieces.end() && piece->offset < end; ++piece) {
    const uint64_t from = std::max(offset, piece->offset);
    const uint64_t to = std::min(end, piece->offset + piece->bytes);
    if (from < to) visit(from, piece->data + (from - piece->offset), to - from);
  }
}

// Whether the pieces cover bytes [offset, offset + bytes) of the row.
bool Covers(const RowTarget& target, uint64_t offset, uint64_t bytes);

// Adds bytes [offset, offset + bytes) of a row, as they stand in its target's pieces, to `hash`.
// The pieces must cover them.
void HashPieces(const RowTarget& target, uint32_t row, uint64_t offset, uint64_t bytes,
                ContentHash* hash);

}  // namespace packcast
