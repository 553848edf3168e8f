#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "protocol/dtype.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/broadcast.h"
#include "runtime/data/cancel_token.h"
#include "runtime/data/collective.h"
#include "runtime/data/target_map.h"
#include "runtime/data/tensor.h"

namespace packcast {

// A piece of a row as it stands in a received buffer: `bytes` bytes from byte `offset` of the row.
// Valid during the callback only; where the collective reads in place it is the root's memory.
// Aligned layout: `data` is aligned to 256 bytes.
struct UnpackedRegion {
  uint32_t row = 0;
  const Row* meta = nullptr;  // name, dtype, shape
  uint64_t row_bytes = 0;     // of the whole row; equals `bytes` when it was not split
  uint64_t offset = 0;
  uint64_t bytes = 0;
  const std::byte* data = nullptr;
};

// Takes the regions of one verified buffer, in order; only rows of kind callback. Empty rows have
// no region: they come with bytes == 0 and data == nullptr, in order. Called on the thread that
// drives the consumer; nothing is received meanwhile. An error ends the run and becomes its status;
// must not throw.
using UnpackCallback = std::function<Status(std::span<const UnpackedRegion>)>;

// A member's end of one packed broadcast: computes the same steps from the rows it expects, grants
// credit while it has free buffers, copies to targets and shows the rest to a callback. A state
// machine without threads, like PackedProducer; the same rules on use, errors and threads.
//
// Memory targets are written while bytes arrive and are undefined until finished; the callback
// sees a buffer only after its seal was verified. On an error, also in the destructor of an
// unfinished consumer, the collective is aborted, after which no target is written.
class PackedConsumer {
 public:
  // `targets` may be null: everything goes to the callback, which may be null when no row needs
  // it. `collective`, `rows` and `targets` must outlive the consumer. Errors: kInvalidArgument for
  // bad options or the root's rank, kFailedPrecondition for a lent ring that is in use, and those
  // of the allocator. A row without a target that nobody can take is found when it comes.
  static StatusOr<std::unique_ptr<PackedConsumer>> Make(Collective* collective, RowSource* rows,
                                                        const BroadcastOptions& options,
                                                        UnpackCallback callback,
                                                        const TargetMap* targets = nullptr);
  ~PackedConsumer();
  PackedConsumer(const PackedConsumer&) = delete;
  PackedConsumer& operator=(const PackedConsumer&) = delete;

  // See PackedProducer. A wrong seal is kDataLoss and names step, tensors and rank.
  StatusOr<bool> Advance();
  bool idle() const;
  StatusOr<BroadcastResult> Run(Time deadline, CancelToken* cancel = nullptr,
                                std::atomic<uint64_t>* beats = nullptr);
  void Abort(const Status& why);

  // Meaningful once finished.
  const BroadcastResult& result() const;

 private:
  class Impl;
  explicit PackedConsumer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packcast
