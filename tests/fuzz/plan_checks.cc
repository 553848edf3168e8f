#include "tests/fuzz/plan_checks.h"

#include <algorithm>
#include <vector>

#include "protocol/limits.h"
#include "runtime/base/check.h"

namespace packcast::fuzz {
namespace {

class Checker {
 public:
  Checker(const Manifest& manifest, const PlanOptions& options, const Plan& plan)
      : manifest_(manifest), options_(options), plan_(plan), done_(manifest.size()) {}

  void Check() {
    uint64_t wire_bytes = 0;
    uint64_t largest = 0;
    uint32_t next = 0;
    for (size_t k = 0; k < plan_.steps.size(); ++k) {
      const Step& step = plan_.steps[k];
      PC_CHECK(step.region_begin == next && step.region_end > next) << "step " << k;
      next = step.region_end;
      step.direct ? CheckDirect(step) : CheckPacked(step, IsLastPacked(k));
      wire_bytes += step.bytes;
      if (!step.direct) largest = std::max(largest, step.bytes);
    }
    PC_CHECK(next == plan_.regions.size());
    PC_CHECK(wire_bytes == plan_.wire_bytes && largest == plan_.largest_step);
    for (uint32_t row = 0; row < manifest_.size(); ++row) {
      const uint64_t travels = Contains(options_.rows, row) ? manifest_.row_bytes(row) : 0;
      PC_CHECK(done_[row] == travels) << "row " << row << ": " << done_[row];
    }
  }

 private:
  bool IsLastPacked(size_t step) const {
    return std::all_of(plan_.steps.begin() + static_cast<ptrdiff_t>(step) + 1, plan_.steps.end(),
                       [](const Step& later) { return later.direct; });
  }

  // Each region goes on where the one before it of the same row ended.
  void Take(const Region& region) {
    PC_CHECK(region.row < manifest_.size() && region.bytes > 0);
    PC_CHECK(region.offset == done_[region.row]) << "row " << region.row;
    done_[region.row] += region.bytes;
    // Where hashes and copies are cut.
    PC_CHECK(region.offset % limits::kAlignBytes == 0);
  }

  void CheckPacked(const Step& step, bool is_last) {
    const bool compat = options_.layout == Layout::kCompat;
    uint64_t end = 0;
    uint64_t before = 0;  // without the last region
    for (uint32_t k = step.region_begin; k < step.region_end; ++k) {
      const Region& region = plan_.regions[k];
      Take(region);
      PC_CHECK(region.buffer_offset == (compat ? end : AlignUp(end)));
      before = end;
      end = region.buffer_offset + region.bytes;
      if (compat) PC_CHECK(region.bytes == manifest_.row_bytes(region.row)) << "a split tensor";
    }
    PC_CHECK(step.bytes == end);
    if (!compat) {
      PC_CHECK(step.bytes <= options_.buffer_bytes) << "a buffer has " << step.bytes;
    } else {
      PC_CHECK(before <= options_.buffer_bytes) << "closed too late";
      PC_CHECK(is_last || end > options_.buffer_bytes) << "closed too early";
    }
  }

  void CheckDirect(const Step& step) {
    uint64_t bytes = 0;
    for (uint32_t k = step.region_begin; k < step.region_end; ++k) {
      const Region& region = plan_.regions[k];
      Take(region);
      bytes += region.bytes;
      PC_CHECK(region.buffer_offset == 0);
      PC_CHECK(
          options_.layout == Layout::kAligned && options_.direct_bytes_min > 0 &&
          manifest_.row_bytes(region.row) >= options_.direct_bytes_min &&
          std::binary_search(options_.direct_rows.begin(), options_.direct_rows.end(), region.row))
          << "row " << region.row << " may not go direct";
    }
    PC_CHECK(step.bytes == bytes && bytes <= options_.direct_bytes_per_step);
    PC_CHECK(step.region_end - step.region_begin <= options_.direct_regions_per_step);
  }

  const Manifest& manifest_;
  const PlanOptions& options_;
  const Plan& plan_;
  std::vector<uint64_t> done_;  // of each row
};

}  // namespace

void CheckPlan(const Manifest& manifest, const PlanOptions& options, const Plan& plan) {
  Checker(manifest, options, plan).Check();
}

bool IsLong(const Manifest& manifest, const PlanOptions& options) {
  constexpr uint64_t kSteps = 2000;
  const uint64_t step = std::min(options.buffer_bytes, options.direct_bytes_per_step);
  return manifest.total_bytes() / std::max<uint64_t>(step, 1) > kSteps;
}

}  // namespace packcast::fuzz
