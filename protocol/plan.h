#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "protocol/digest.h"
#include "protocol/limits.h"
#include "protocol/manifest.h"
#include "protocol/status.h"

namespace packcast {

// The next multiple of limits::kAlignBytes; `bytes` is a size of a model or less.
constexpr uint64_t AlignUp(uint64_t bytes) {
  return (bytes + limits::kAlignBytes - 1) / limits::kAlignBytes * limits::kAlignBytes;
}

// How rows are laid out in buffers.
enum class Layout : uint8_t {
  // Regions start at multiples of 256 bytes; a buffer is filled to the brim, tensors split.
  kAligned = 0,
  // What Python stacks compute on their own: no alignment, tensors never split, a buffer closes
  // once its size exceeds the target, the crossing tensor included (vLLM's packed broadcast). So a
  // buffer can be larger than the target.
  kCompat = 1,
};

// Rows begin, begin + 1, ... end - 1 of a manifest.
struct RowRange {
  uint32_t begin = 0;
  uint32_t end = 0;

  template <class V>
  void Fields(V& v) {
    v("begin", begin);
    v("end", end);
  }
  friend bool operator==(const RowRange&, const RowRange&) = default;
};

// Rows that are listed by ascending ranges that do not touch; no ranges stand for all rows.
bool Contains(const std::vector<RowRange>& ranges, uint32_t row);
// Ascending, not empty, apart. kInvalidArgument names the first range that is not.
Status CheckRanges(const std::vector<RowRange>& ranges);

// What the plan depends on besides the manifest; part of the contract's flow.
struct PlanOptions {
  Layout layout = Layout::kAligned;
  uint64_t buffer_bytes = 0;  // aligned: a multiple of 256
  // Rows of at least this many bytes that are listed in `direct_rows` travel unpacked; 0: none.
  uint64_t direct_bytes_min = 0;
  uint32_t direct_regions_per_step = 64;
  uint64_t direct_bytes_per_step = uint64_t{1} << 30;  // at least 256
  // Bytes of all direct rows and of all others, 0: not known. With it the last steps of that kind
  // get smaller, each a third of what is left, down to kTaperBytes: unpacking and verifying the
  // very last one is what nothing overlaps, and with thirds the wire takes as long for a step as a
  // device takes to verify the one before. So do the first packed ones: nothing overlaps packing
  // the very first.
  uint64_t direct_bytes_total = 0;
  uint64_t packed_bytes_total = 0;    // each row rounded up to 256
  std::vector<uint32_t> direct_rows;  // ascending; eligible on every member
  // The rows that travel; those that do not have no region, as empty ones. Empty: all.
  std::vector<RowRange> rows;
};

inline constexpr uint64_t kTaperBytes = uint64_t{64} << 20;

// A piece of a row: `bytes` bytes from byte `offset` of row `row`; in a packed step they stand at
// byte `buffer_offset` of the buffer.
struct Region {
  uint32_t row = 0;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint64_t buffer_offset = 0;
  friend bool operator==(const Region&, const Region&) = default;
};

// One collective operation: a packed buffer, or a group of direct regions.
struct Step {
  bool direct = false;
  uint32_t region_begin = 0;  // into Plan::regions
  uint32_t region_end = 0;
  uint64_t bytes = 0;  // on the wire: the buffer's filled size, padding included, or the sum
};

// Which region of which row goes into which step, in order: a pure function of manifest and
// options, so that members who agree on the digest agree on every byte. Immutable.
struct Plan {
  std::vector<Region> regions;
  std::vector<Step> steps;
  uint64_t wire_bytes = 0;    // sum over steps
  uint64_t largest_step = 0;  // packed steps only: the buffer that is really needed
  Digest digest;              // XXH3-128 of manifest digest, options and all regions
};

// Lays rows into steps, one row and one event at a time: MakePlan is this over a whole manifest,
// and who learns the rows only one by one gets the same steps. A value; one thread at a time.
class Planner {
 public:
  struct Event {
    enum class Kind : uint8_t {
      kRegion,   // `region` belongs to the open step of its kind; `direct` says which
      kStep,     // the open step of kind `direct` is closed, with all its regions: it is the next
      kNeedRow,  // call AddRow or Finish
      kEnd,      // after Finish: no more events
    };
    Kind kind = Kind::kNeedRow;
    bool direct = false;
    Region region;            // kRegion
    uint64_t step_bytes = 0;  // kStep: on the wire
    uint32_t regions = 0;     // kStep: how many it has
  };

  // Errors: those of MakePlan about the options alone.
  static StatusOr<Planner> Make(PlanOptions options);

  // The next row; they are numbered from 0. Only after kNeedRow. Whether it goes direct is up to
  // the options.
  void AddRow(uint64_t bytes);
  // No more rows. Only after kNeedRow.
  void Finish();
  // What comes next. Errors: kInvalidArgument for too many steps or regions.
  StatusOr<Event> Next();

  uint32_t rows() const { return rows_; }

 private:
  explicit Planner(PlanOptions options) : options_(std::move(options)) {}
  Event PlacePacked();
  Event PlaceDirect();
  static uint64_t LimitOf(uint64_t most, uint64_t total, uint64_t done);
  StatusOr<Event> Close(bool direct);
  bool PackedIsFull() const;
  bool DirectIsFull() const;

  // The step of one kind that is being laid out.
  struct Open {
    uint64_t fill = 0;
    uint32_t regions = 0;
    uint64_t limit = 0;  // bytes, at most
  };
  PlanOptions options_;
  size_t next_direct_ = 0;  // into options_.direct_rows
  uint32_t rows_ = 0;
  uint64_t row_bytes_ = 0;  // of row rows_ - 1, which is being laid out
  uint64_t row_done_ = 0;
  bool row_direct_ = false;
  bool finished_ = false;
  Open packed_;
  Open direct_;
  uint64_t packed_done_ = 0;  // bytes in closed steps
  uint64_t direct_done_ = 0;
  uint64_t steps_ = 0;
  uint64_t regions_ = 0;
};

// Errors: kInvalidArgument for a buffer size that is out of limits or not a multiple of 256
// (aligned layout), for direct rows that are unordered or out of range, and for more than
// limits::kPlanSteps steps. Empty rows travel as metadata only and have no region.
StatusOr<Plan> MakePlan(const Manifest& manifest, const PlanOptions& options);

}  // namespace packcast
