#include "runtime/data/broadcast_setup.h"

#include <algorithm>
#include <mutex>
#include <string>

#include "protocol/limits.h"

namespace packcast {
namespace {

uint64_t BufferBytes(const BroadcastOptions& options) {
  const uint64_t agreed = options.plan.buffer_bytes;
  if (options.expected == nullptr) return agreed;
  const uint64_t largest = std::max(options.expected->largest_step, limits::kBufferBytesMin);
  return options.plan.layout == Layout::kCompat ? largest : std::min(agreed, largest);
}

std::string RowText(const Row& row, uint64_t bytes) {
  return "\"" + row.name + "\", " + std::string(DtypeName(row.dtype)) + " " +
         ShapeToString(row.shape) + ", " + std::to_string(bytes) + " bytes";
}

}  // namespace

void RingHandle::Abandon() {
  // Reachable, so that leak checkers see that it is meant. Never destroyed.
  static std::mutex mutex;
  static auto* const kept = new std::vector<std::unique_ptr<BufferRing>>;
  if (own_ == nullptr) return;
  std::lock_guard lock(mutex);
  kept->push_back(std::move(own_));
}

Status CheckOptions(const BroadcastOptions& options) {
  if ((options.manifest == nullptr) != (options.expected == nullptr)) {
    return InvalidArgument("a plan to check against needs its manifest, and the reverse");
  }
  if (options.direct_steps_in_flight == 0) {
    return InvalidArgument("direct_steps_in_flight must be at least 1");
  }
  return OkStatus();
}

StatusOr<RingHandle> MakeRing(const BroadcastOptions& options) {
  PC_RETURN_IF_ERROR(CheckOptions(options));
  const uint64_t bytes = BufferBytes(options);
  if (options.ring == nullptr) {
    PC_ASSIGN_OR_RETURN(auto ring,
                        BufferRing::Make(bytes, options.buffer_count, options.allocator));
    return RingHandle(std::move(ring));
  }
  if (options.ring->bytes() < bytes) {
    return InvalidArgument("the lent buffers have " + std::to_string(options.ring->bytes()) +
                           " bytes, the plan needs " + std::to_string(bytes));
  }
  for (uint32_t slot = 0; slot < options.ring->count(); ++slot) {
    if (options.ring->state(slot) != BufferRing::State::kFree) {
      return FailedPrecondition("buffer " + std::to_string(slot) + " of the lent ring is in use");
    }
  }
  return RingHandle(options.ring);
}

Status CheckRow(const BroadcastOptions& options, uint32_t row, const Row& actual, uint64_t bytes) {
  if (row >= limits::kManifestRows) {
    return ResourceExhausted("more than " + std::to_string(limits::kManifestRows) + " rows");
  }
  if (options.manifest == nullptr) return OkStatus();
  if (row >= options.manifest->size()) {
    return FailedPrecondition("row " + std::to_string(row) + " is " + RowText(actual, bytes) +
                              "; the manifest has only " +
                              std::to_string(options.manifest->size()) + " rows");
  }
  const Row& planned = options.manifest->rows()[row];
  const uint64_t planned_bytes = options.manifest->row_bytes(row);
  if (planned.name == actual.name && planned.dtype == actual.dtype && planned_bytes == bytes) {
    return OkStatus();
  }
  return FailedPrecondition("row " + std::to_string(row) + " is " + RowText(actual, bytes) +
                            "; the manifest has " + RowText(planned, planned_bytes));
}

Status CheckRowsEnd(const BroadcastOptions& options, uint32_t rows) {
  if (options.manifest == nullptr || rows == options.manifest->size()) return OkStatus();
  return FailedPrecondition(
      "the rows end after " + std::to_string(rows) + "; the manifest goes on with " +
      RowText(options.manifest->rows()[rows], options.manifest->row_bytes(rows)));
}

Status CheckPlannedStep(const Plan& plan, uint64_t sequence, bool direct, uint64_t bytes,
                        uint64_t first_region, const std::vector<Region>& regions) {
  if (sequence < plan.steps.size()) {
    const Step& step = plan.steps[sequence];
    if (step.direct == direct && step.bytes == bytes && step.region_begin == first_region &&
        step.region_end - step.region_begin == regions.size() &&
        std::equal(regions.begin(), regions.end(), plan.regions.begin() + step.region_begin)) {
      return OkStatus();
    }
  }
  return FailedPrecondition("step " + std::to_string(sequence) + " of " + std::to_string(bytes) +
                            " bytes is not that of the plan: options and plan do not belong " +
                            "together");
}

}  // namespace packcast
