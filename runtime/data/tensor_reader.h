#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "protocol/status.h"
#include "runtime/data/tensor.h"

namespace packcast {

// Reads a tensor as the bytes it has on the wire: row-major, converted. Borrows the tensor's
// memory; a value; thread-safe while only Read is called.
class TensorReader {
 public:
  // Errors (kInvalidArgument) name the tensor: bad shape, strides that do not match it, strided
  // sub-byte types, no data, a conversion that does not exist.
  static StatusOr<TensorReader> Make(const NamedTensor& tensor);

  uint64_t wire_bytes() const { return wire_bytes_; }
  // Whether memory and wire are the same bytes: such a tensor may travel direct.
  bool is_plain() const { return convert_ == nullptr && dims_.empty(); }
  const std::byte* data() const { return data_; }

  // Writes wire bytes [offset, offset + bytes) to `out`; both are multiples of the wire element's
  // size unless is_plain().
  void Read(uint64_t offset, uint64_t bytes, std::byte* out) const;

 private:
  using Convert = void (*)(const std::byte* from, std::byte* to, uint64_t count);
  TensorReader() = default;
  void ReadStrided(uint64_t first, uint64_t count, std::byte* out) const;
  void CopyRun(const std::byte* from, int64_t stride, uint64_t count, std::byte* out) const;

  const std::byte* data_ = nullptr;
  uint64_t wire_bytes_ = 0;
  uint64_t source_size_ = 1;  // bytes of an element in memory
  uint64_t wire_size_ = 1;    // and on the wire
  Convert convert_ = nullptr;
  std::vector<TensorDim> dims_;  // empty: contiguous
};

}  // namespace packcast
