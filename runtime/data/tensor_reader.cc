#include "runtime/data/tensor_reader.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "protocol/limits.h"
#include "runtime/data/float_convert.h"

namespace packcast {
namespace {

template <size_t N>
void CopyElements(const std::byte* from, int64_t step, uint64_t count, std::byte* out) {
  for (uint64_t k = 0; k < count; ++k, from += step, out += N) std::memcpy(out, from, N);
}

}  // namespace

StatusOr<TensorReader> TensorReader::Make(const NamedTensor& tensor) {
  TensorReader reader;
  PC_ASSIGN_OR_RETURN(reader.wire_bytes_, RowBytes(RowOf(tensor)));
  PC_ASSIGN_OR_RETURN(const Conversion conversion, ConversionOf(tensor));
  switch (conversion) {
    case Conversion::kNone: break;
    case Conversion::kF32ToBf16: reader.convert_ = ConvertFp32ToBf16; break;
    case Conversion::kF32ToFp16: reader.convert_ = ConvertFp32ToFp16; break;
  }
  reader.data_ = tensor.data;
  reader.source_size_ =
      static_cast<uint64_t>(DtypeBits(tensor.source_dtype.value_or(tensor.dtype))) / 8;
  reader.wire_size_ = static_cast<uint64_t>(DtypeBits(tensor.dtype)) / 8;
  PC_ASSIGN_OR_RETURN(reader.dims_, StridedDims(tensor));
  return reader;
}

void TensorReader::Read(uint64_t offset, uint64_t bytes, std::byte* out) const {
  if (bytes == 0) return;
  if (is_plain()) {
    std::memcpy(out, data_ + offset, bytes);
  } else if (dims_.empty()) {
    convert_(data_ + offset / wire_size_ * source_size_, out, bytes / wire_size_);
  } else {
    ReadStrided(offset / wire_size_, bytes / wire_size_, out);
  }
}

// Runs along the innermost dimension; the outer ones count like an odometer.
void TensorReader::ReadStrided(uint64_t first, uint64_t count, std::byte* out) const {
  std::array<uint64_t, limits::kTensorRank> at{};
  uint64_t rest = first;
  for (size_t k = dims_.size(); k-- > 0;) {
    at[k] = rest % dims_[k].extent;
    rest /= dims_[k].extent;
  }
  const size_t inner = dims_.size() - 1;
  while (count > 0) {
    int64_t element = 0;
    for (size_t k = 0; k < dims_.size(); ++k) {
      element += static_cast<int64_t>(at[k]) * dims_[k].stride;
    }
    const uint64_t run = std::min(count, dims_[inner].extent - at[inner]);
    CopyRun(data_ + element * static_cast<int64_t>(source_size_), dims_[inner].stride, run, out);
    out += run * wire_size_;
    count -= run;
    at[inner] += run;
    for (size_t k = inner; k > 0 && at[k] == dims_[k].extent; --k) {
      at[k] = 0;
      ++at[k - 1];
    }
  }
}

void TensorReader::CopyRun(const std::byte* from, int64_t stride, uint64_t count,
                           std::byte* out) const {
  const int64_t step = stride * static_cast<int64_t>(source_size_);
  if (convert_ != nullptr) {
    if (stride == 1) return convert_(from, out, count);
    for (uint64_t k = 0; k < count; ++k, from += step, out += wire_size_) convert_(from, out, 1);
    return;
  }
  if (stride == 1) {
    std::memcpy(out, from, count * wire_size_);
    return;
  }
  switch (wire_size_) {
    case 1: return CopyElements<1>(from, step, count, out);
    case 2: return CopyElements<2>(from, step, count, out);
    case 4: return CopyElements<4>(from, step, count, out);
    case 8: return CopyElements<8>(from, step, count, out);
  }
}

}  // namespace packcast
