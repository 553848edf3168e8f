#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "protocol/manifest.h"
#include "protocol/plan.h"
#include "protocol/status.h"
#include "runtime/data/broadcast.h"
#include "runtime/data/buffer_ring.h"

namespace packcast {

// A ring, lent or owned, or none. A value that moves.
class RingHandle {
 public:
  RingHandle() = default;
  explicit RingHandle(BufferRing* lent) : ring_(lent) {}
  explicit RingHandle(std::unique_ptr<BufferRing> own) : ring_(own.get()), own_(std::move(own)) {}
  BufferRing* operator->() const { return ring_; }
  bool has_ring() const { return ring_ != nullptr; }
  // A transport may still use the buffers: an own ring is kept for ever, a lent one stays in use.
  void Abandon();

 private:
  BufferRing* ring_ = nullptr;
  std::unique_ptr<BufferRing> own_;
};

// Whether the options go together; kInvalidArgument.
Status CheckOptions(const BroadcastOptions& options);

// The ring that the options ask for: the lent one, which must be free and large enough, or a new
// one. With a plan at hand a new one is no larger than its largest step.
StatusOr<RingHandle> MakeRing(const BroadcastOptions& options);

// Row number `row` is this one in the manifest, if there is one. Errors (kFailedPrecondition) name
// the tensor and both sides' values.
Status CheckRow(const BroadcastOptions& options, uint32_t row, const Row& actual, uint64_t bytes);
// No row is missing after `rows`.
Status CheckRowsEnd(const BroadcastOptions& options, uint32_t rows);

// The step is the one that the plan has at `sequence`.
Status CheckPlannedStep(const Plan& plan, uint64_t sequence, bool direct, uint64_t bytes,
                        uint64_t first_region, const std::vector<Region>& regions);

}  // namespace packcast
