#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/broadcast.h"
#include "runtime/data/cancel_token.h"
#include "runtime/data/collective.h"
#include "runtime/data/tensor.h"

namespace packcast {

// The root's end of one packed broadcast: pulls tensors, packs them into buffers or sends them
// from their own memory, one buffer being packed while others leave. A state machine without
// threads: either call Run, or call Advance and Collective::Poll in turns. Owned by its caller,
// used by one thread, except that rows_entered, beats and CancelToken are for all.
//
// The stream must have been begun (Collective::Begin) on every rank. On an error, also in the
// destructor of an unfinished producer, the collective is aborted before any tensor is released.
class PackedProducer {
 public:
  // Errors: kInvalidArgument for bad options or a rank that is not the root, kFailedPrecondition
  // for a lent ring that is in use; the allocator's. `collective` must outlive the producer,
  // `source` too, until the producer has finished or failed. `transform` runs after each Next,
  // under the same rules (TensorSource).
  static StatusOr<std::unique_ptr<PackedProducer>> Make(Collective* collective,
                                                        TensorSource* source,
                                                        const BroadcastOptions& options,
                                                        TensorTransform transform = nullptr);
  ~PackedProducer();
  PackedProducer(const PackedProducer&) = delete;
  PackedProducer& operator=(const PackedProducer&) = delete;

  // Does what can be done now without waiting, at most about 1 MiB of copying. True when
  // finished. Errors are sticky.
  StatusOr<bool> Advance();

  // Whether the last Advance could do nothing: Poll the collective before the next.
  bool idle() const;

  // Advance and Poll until finished, cancelled (the token's status; looked at between rows and
  // slices) or `deadline` (kDeadlineExceeded, naming what was waited for). `beats`, when given,
  // grows with each turn. Both pointers may be null.
  StatusOr<BroadcastResult> Run(Time deadline, CancelToken* cancel = nullptr,
                                std::atomic<uint64_t>* beats = nullptr);

  // Gives up: aborts the collective, then releases all tensors. Idempotent; the reason becomes the
  // sticky error. Where the transport cannot be stopped (Collective::Abort), what it may still read
  // is kept for ever: the tensors of direct steps are not released, and a ring of our own stays.
  void Abort(const Status& why);

  // Rows pulled from the source so far. Any thread.
  uint64_t rows_entered() const;
  // Rows whose bytes are not needed any more. Any thread.
  uint64_t rows_released() const;

  // Meaningful once finished.
  const BroadcastResult& result() const;

 private:
  class Impl;
  explicit PackedProducer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packcast
