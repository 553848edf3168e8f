#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "protocol/digest.h"
#include "protocol/status.h"
#include "runtime/data/tensor.h"
#include "runtime/data/tensor_batch.h"

namespace packcast {

// A checksum covers at most this much of a row, counted from where the row's region begins.
inline constexpr uint32_t kPieceBytes = 256u << 10;

// The elements of a tensor that is not contiguous, outermost dimension first; dimensions that
// could be merged are.
struct PieceLayout {
  static constexpr uint32_t kDimsMax = 8;
  uint32_t dims = 0;
  uint32_t wire_size = 1;    // bytes of an element on the wire
  uint32_t source_size = 1;  // and in memory
  uint32_t reserved = 0;
  std::array<uint64_t, kDimsMax> extent{};
  std::array<int64_t, kDimsMax> stride{};  // in source elements
};

// Bytes of one row to copy, to hash, or both, wherever they are: what a pack or unpack kernel works
// on. Plain data, read by kernels as it stands.
struct CopyPiece {
  static constexpr uint16_t kContiguous = 0xffff;

  // Of the first byte or element (contiguous), or of the whole tensor (with a layout).
  const std::byte* from = nullptr;
  std::byte* to = nullptr;  // null: only hashed
  uint64_t row_offset = 0;  // on the wire; a multiple of 8 where it is hashed
  uint32_t row = 0;
  uint32_t bytes = 0;  // on the wire, 1 to kPieceBytes
  Conversion conversion = Conversion::kNone;
  uint8_t hashed = 1;
  uint16_t layout = kContiguous;  // else an index into the layouts that come along
  uint32_t reserved = 0;
};
static_assert(sizeof(CopyPiece) == 40);

// Does a piece's work on the CPU and returns its checksum (zero if not hashed): the twin of the
// kernels, whose results are the same bit for bit. No overlap between `from` and `to`.
Digest RunPiece(const CopyPiece& piece, std::span<const PieceLayout> layouts);

// What of a tensor a kernel needs to know. Errors (kInvalidArgument) as TensorReader::Make has
// them; also for tensors of more dimensions than a layout holds.
struct TensorAccess {
  const std::byte* data = nullptr;
  uint64_t wire_bytes = 0;
  Conversion conversion = Conversion::kNone;
  bool contiguous = true;
  PieceLayout layout;  // when it is not

  // Whether memory and wire are the same bytes.
  bool is_plain() const { return contiguous && conversion == Conversion::kNone; }

  static StatusOr<TensorAccess> Make(const NamedTensor& tensor);
  // Becomes that of a tensor which is this row, of `bytes` bytes on the wire. Cheap for the usual
  // tensor, contiguous and as it travels: there are many. Errors leave it as it was.
  Status Set(const Row& row, uint64_t bytes, const BatchTensor& tensor);
};

// The piece of `bytes` wire bytes from `row_offset` on. `layout` is where access.layout will be
// found, if it has one.
CopyPiece PieceOf(const TensorAccess& access, uint32_t row, uint64_t row_offset, uint32_t bytes,
                  std::byte* to, uint16_t layout);

}  // namespace packcast
