#include "runtime/data/copy_piece.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "runtime/data/float_convert.h"

namespace packcast {
namespace {

// What is made and hashed at a time when there is no destination to make it in.
constexpr uint32_t kScratchBytes = 4096;

void ConvertOne(Conversion conversion, const std::byte* from, std::byte* to, uint64_t bytes) {
  switch (conversion) {
    case Conversion::kNone: std::memcpy(to, from, bytes); break;
    case Conversion::kF32ToBf16: ConvertFp32ToBf16(from, to, bytes / 2); break;
    case Conversion::kF32ToFp16: ConvertFp32ToFp16(from, to, bytes / 2); break;
  }
}

// Bytes in memory of one on the wire.
uint64_t Widening(Conversion conversion) { return conversion == Conversion::kNone ? 1 : 2; }

void ReadStrided(const CopyPiece& piece, const PieceLayout& layout, uint64_t offset, uint32_t bytes,
                 std::byte* to) {
  const uint64_t first = offset / layout.wire_size;
  for (uint64_t k = 0; k < bytes / layout.wire_size; ++k) {
    uint64_t rest = first + k;
    int64_t element = 0;
    for (uint32_t dim = layout.dims; dim-- > 0;) {
      element += static_cast<int64_t>(rest % layout.extent[dim]) * layout.stride[dim];
      rest /= layout.extent[dim];
    }
    ConvertOne(piece.conversion, piece.from + element * static_cast<int64_t>(layout.source_size),
               to + k * layout.wire_size, layout.wire_size);
  }
}

// Wire bytes [at, at + bytes) of the piece.
void Read(const CopyPiece& piece, std::span<const PieceLayout> layouts, uint32_t at, uint32_t bytes,
          std::byte* to) {
  if (piece.layout == CopyPiece::kContiguous) {
    ConvertOne(piece.conversion, piece.from + at * Widening(piece.conversion), to, bytes);
  } else {
    ReadStrided(piece, layouts[piece.layout], piece.row_offset + at, bytes, to);
  }
}

}  // namespace

Digest RunPiece(const CopyPiece& piece, std::span<const PieceLayout> layouts) {
  ContentHash hash;
  if (piece.to != nullptr) {
    Read(piece, layouts, 0, piece.bytes, piece.to);
    if (piece.hashed != 0) hash.Add(piece.row, piece.row_offset, {piece.to, piece.bytes});
    return hash.digest();
  }
  std::array<std::byte, kScratchBytes> scratch;
  for (uint32_t at = 0; at < piece.bytes; at += kScratchBytes) {
    const uint32_t part = std::min(kScratchBytes, piece.bytes - at);
    Read(piece, layouts, at, part, scratch.data());
    if (piece.hashed != 0) hash.Add(piece.row, piece.row_offset + at, {scratch.data(), part});
  }
  return hash.digest();
}

StatusOr<TensorAccess> TensorAccess::Make(const NamedTensor& tensor) {
  TensorAccess access;
  PC_ASSIGN_OR_RETURN(access.wire_bytes, RowBytes(RowOf(tensor)));
  PC_ASSIGN_OR_RETURN(access.conversion, ConversionOf(tensor));
  PC_ASSIGN_OR_RETURN(const std::vector<TensorDim> dims, StridedDims(tensor));
  access.data = tensor.data;
  access.contiguous = dims.empty();
  if (dims.empty()) return access;
  if (dims.size() > PieceLayout::kDimsMax) {
    return InvalidArgument("tensor \"" + tensor.name + "\" has " + std::to_string(dims.size()) +
                           " dimensions that do not merge; on a device at most " +
                           std::to_string(PieceLayout::kDimsMax) +
                           " can be packed: make it contiguous");
  }
  PieceLayout& layout = access.layout;
  const Dtype source = tensor.source_dtype.value_or(tensor.dtype);
  layout.dims = static_cast<uint32_t>(dims.size());
  layout.wire_size = static_cast<uint32_t>(DtypeBits(tensor.dtype)) / 8;
  layout.source_size = static_cast<uint32_t>(DtypeBits(source)) / 8;
  for (size_t k = 0; k < dims.size(); ++k) {
    layout.extent[k] = dims[k].extent;
    layout.stride[k] = dims[k].stride;
  }
  return access;
}

Status TensorAccess::Set(const Row& row, uint64_t bytes, const BatchTensor& tensor) {
  if (tensor.dtype == row.dtype && tensor.strides.empty() && tensor.data != nullptr) {
    data = tensor.data;
    wire_bytes = bytes;
    conversion = Conversion::kNone;
    contiguous = true;
    return OkStatus();
  }
  NamedTensor named{row.name, row.dtype, row.shape, tensor.data, tensor.strides};
  if (tensor.dtype != row.dtype) named.source_dtype = tensor.dtype;
  PC_ASSIGN_OR_RETURN(*this, Make(named));
  return OkStatus();
}

CopyPiece PieceOf(const TensorAccess& access, uint32_t row, uint64_t row_offset, uint32_t bytes,
                  std::byte* to, uint16_t layout) {
  CopyPiece piece;
  piece.from =
      access.contiguous ? access.data + row_offset * Widening(access.conversion) : access.data;
  piece.to = to;
  piece.row_offset = row_offset;
  piece.row = row;
  piece.bytes = bytes;
  piece.conversion = access.conversion;
  piece.layout = access.contiguous ? CopyPiece::kContiguous : layout;
  return piece;
}

}  // namespace packcast
