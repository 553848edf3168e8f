#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "protocol/dtype.h"
#include "protocol/manifest.h"
#include "protocol/status.h"

namespace packcast {

// One tensor in a device's memory; which row of the manifest it is, its place says.
struct BatchTensor {
  const std::byte* data = nullptr;  // may be null when there are no elements
  Dtype dtype = Dtype::kU8;         // in memory; F32 may be sent as BF16 or F16
  std::vector<int64_t> strides;     // in elements; empty: contiguous
};

// Tensors that become available and are released together, in the manifest's order.
struct TensorBatch {
  std::vector<BatchTensor> tensors;
  // A cudaEvent_t: the bytes are there once it fires. Null: they are. It stays until `release`.
  void* ready = nullptr;
  // Called once, when nothing reads them any more; rules as for NamedTensor::release.
  std::function<void()> release;
};

// The tensors of a manifest, a batch at a time: many small tensors cost little this way. Threads
// and waiting as for TensorSource.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // The next batch, never an empty one; nothing at the end.
  virtual StatusOr<std::optional<TensorBatch>> Next() = 0;
  virtual bool Ready() { return true; }
  virtual void SetWake(std::function<void()>) {}
};

// A source over batches that are all at hand.
std::unique_ptr<BatchSource> BatchesOf(std::vector<TensorBatch> batches);

}  // namespace packcast
