#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocol/dtype.h"
#include "protocol/manifest.h"
#include "protocol/status.h"

namespace packcast {

// One tensor to send, as the caller's memory holds it.
struct NamedTensor {
  std::string name;
  Dtype dtype = Dtype::kU8;         // on the wire
  std::vector<int64_t> shape;       // empty: 0-d
  const std::byte* data = nullptr;  // may be null when there are no elements
  std::vector<int64_t> strides;     // in elements, one per dimension; empty: contiguous
  // In memory, when packing converts: F32 to BF16 or F16. Set by the transforms below.
  std::optional<Dtype> source_dtype;
  // Called once, when nothing reads `data` any more: packed, sent, or given up. On the thread that
  // drives the producer; must not throw. Never called when an abort could not stop the transport
  // (Collective::Abort): then `data` must stay until the process ends.
  std::function<void()> release;
};

// The tensors of a broadcast, in order, one at a time. Used on the thread that drives the producer,
// which also moves the bytes of earlier tensors: while Next waits, nothing is sent or received, and
// neither deadline nor cancellation is looked at. That is fine for waits of some milliseconds, such
// as reading a file. A source that waits for longer, or for the release of earlier tensors, says
// so through Ready. Functions must not throw.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // The next tensor; nothing at the end. An error ends the broadcast and becomes its status.
  virtual StatusOr<std::optional<NamedTensor>> Next() = 0;

  // Whether Next would return at once. While it would not, the producer goes on with what is under
  // way, and asks again after a wake, or 0.1 s later.
  virtual bool Ready() { return true; }
  // What to call when Ready may have become true, from any thread; null when there is nobody to
  // wake any more. After it has returned, an earlier `wake` is not running.
  virtual void SetWake(std::function<void()>) {}
};

// A source over a vector, for those who have all tensors at hand.
std::unique_ptr<TensorSource> SourceOf(std::vector<NamedTensor> tensors);

// The rows that a consumer expects, in the producer's order.
class RowSource {
 public:
  virtual ~RowSource() = default;
  // The next row; nothing at the end. On the thread that drives the consumer, which receives
  // nothing while it waits here. An error ends the broadcast and becomes its status; must not
  // throw.
  virtual StatusOr<std::optional<Row>> Next() = 0;
};

std::unique_ptr<RowSource> RowsOf(std::vector<Row> rows);

// Changes a tensor before it is packed: another name, another view, a conversion.
using TensorTransform = std::function<StatusOr<NamedTensor>(NamedTensor)>;

// F32 tensors leave as BF16 or F16, converted while they are packed (round to nearest even, NaN
// stays NaN, too large becomes infinity); others pass unchanged. Such tensors cannot travel direct.
StatusOr<NamedTensor> Fp32ToBf16(NamedTensor tensor);
StatusOr<NamedTensor> Fp32ToFp16(NamedTensor tensor);

// Whether the elements lie one after the other in row-major order.
bool IsContiguous(const NamedTensor& tensor);

// How elements change on their way to the wire.
enum class Conversion : uint8_t { kNone, kF32ToBf16, kF32ToFp16 };

// Errors (kInvalidArgument) name the tensor: a conversion that does not exist.
StatusOr<Conversion> ConversionOf(const NamedTensor& tensor);

// A dimension of a tensor as it lies in memory; the stride in source elements.
struct TensorDim {
  uint64_t extent = 0;
  int64_t stride = 0;
};

// The dimensions, outermost first, those merged that can be; none for a tensor that is contiguous
// or empty. Errors (kInvalidArgument) name the tensor: strides that do not match the shape, strided
// types below a byte, elements without data.
StatusOr<std::vector<TensorDim>> StridedDims(const NamedTensor& tensor);

// The row that a tensor is on the wire.
Row RowOf(const NamedTensor& tensor);

}  // namespace packcast
