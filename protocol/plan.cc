#include "protocol/plan.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <string>

#include "protocol/limits.h"

namespace packcast {
namespace {

Status CheckOptions(const PlanOptions& options) {
  PC_RETURN_IF_ERROR(CheckRanges(options.rows));
  if (options.buffer_bytes < limits::kBufferBytesMin ||
      options.buffer_bytes > limits::kBufferBytesMax) {
    return InvalidArgument("buffer size " + std::to_string(options.buffer_bytes) +
                           " is out of range [" + std::to_string(limits::kBufferBytesMin) + ", " +
                           std::to_string(limits::kBufferBytesMax) + "]");
  }
  if (options.layout == Layout::kAligned && options.buffer_bytes % limits::kAlignBytes != 0) {
    return InvalidArgument("buffer size " + std::to_string(options.buffer_bytes) +
                           " is not a multiple of 256");
  }
  for (size_t k = 1; k < options.direct_rows.size(); ++k) {
    if (options.direct_rows[k] <= options.direct_rows[k - 1]) {
      return InvalidArgument("direct rows must be ascending row numbers");
    }
  }
  if (options.direct_regions_per_step == 0 || options.direct_bytes_per_step < limits::kAlignBytes) {
    return InvalidArgument("a direct step needs room for one region of 256 bytes");
  }
  return OkStatus();
}

void AppendWord(uint64_t word, std::string* out) {
  for (int k = 0; k < 8; ++k) out->push_back(static_cast<char>(word >> (8 * k)));
}

// Little-endian 64-bit words: docs/protocol.md, "plan_digest".
Digest PlanDigest(const Manifest& manifest, const PlanOptions& options, const Plan& plan) {
  std::string text;
  text.reserve(64 + plan.regions.size() * 32 + plan.steps.size() * 24);
  for (uint64_t word : {manifest.digest().hi, manifest.digest().lo,
                        static_cast<uint64_t>(options.layout), options.buffer_bytes}) {
    AppendWord(word, &text);
  }
  for (const Step& step : plan.steps) {
    AppendWord(step.direct ? 1 : 0, &text);
    AppendWord(step.region_end - step.region_begin, &text);
    AppendWord(step.bytes, &text);
    for (uint32_t k = step.region_begin; k < step.region_end; ++k) {
      const Region& region = plan.regions[k];
      AppendWord(region.row, &text);
      AppendWord(region.offset, &text);
      AppendWord(region.bytes, &text);
      AppendWord(region.buffer_offset, &text);
    }
  }
  return HashBytes(text);
}

}  // namespace

bool Contains(const std::vector<RowRange>& ranges, uint32_t row) {
  if (ranges.empty()) return true;
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), row,
                       [](uint32_t r, const RowRange& range) { return r < range.begin; });
  return after != ranges.begin() && row < std::prev(after)->end;
}

Status CheckRanges(const std::vector<RowRange>& ranges) {
  for (size_t k = 0; k < ranges.size(); ++k) {
    const bool apart = k == 0 || ranges[k - 1].end < ranges[k].begin;
    if (ranges[k].begin < ranges[k].end && apart) continue;
    return InvalidArgument("rows " + std::to_string(ranges[k].begin) + " to " +
                           std::to_string(ranges[k].end) +
                           ": ranges must be ascending, not empty and apart");
  }
  return OkStatus();
}

StatusOr<Planner> Planner::Make(PlanOptions options) {
  PC_RETURN_IF_ERROR(CheckOptions(options));
  return Planner(std::move(options));
}

void Planner::AddRow(uint64_t bytes) {
  const bool listed =
      next_direct_ < options_.direct_rows.size() && options_.direct_rows[next_direct_] == rows_;
  if (listed) ++next_direct_;
  row_direct_ = listed && options_.layout == Layout::kAligned && options_.direct_bytes_min > 0 &&
                bytes >= options_.direct_bytes_min;
  row_bytes_ = Contains(options_.rows, rows_) ? bytes : 0;
  row_done_ = 0;
  ++rows_;
}

void Planner::Finish() { finished_ = true; }

// Full steps close at once, so that they leave while the next row is still being produced.
bool Planner::PackedIsFull() const {
  return options_.layout == Layout::kCompat ? packed_.fill > options_.buffer_bytes
                                            : AlignUp(packed_.fill) >= packed_.limit;
}

bool Planner::DirectIsFull() const {
  return direct_.regions >= options_.direct_regions_per_step || direct_.fill >= direct_.limit;
}

StatusOr<Planner::Event> Planner::Next() {
  if (packed_.regions > 0 && PackedIsFull()) return Close(false);
  if (direct_.regions > 0 && DirectIsFull()) return Close(true);
  if (row_done_ < row_bytes_) {
    if (!row_direct_) return PlacePacked();
    const Event event = PlaceDirect();
    return event.region.bytes > 0 ? StatusOr<Event>(event) : Close(true);
  }
  if (!finished_) return Event{.kind = Event::Kind::kNeedRow};
  if (direct_.regions > 0) return Close(true);
  if (packed_.regions > 0) return Close(false);
  return Event{.kind = Event::Kind::kEnd};
}

Planner::Event Planner::PlacePacked() {
  const bool compat = options_.layout == Layout::kCompat;
  const uint64_t start = compat ? packed_.fill : AlignUp(packed_.fill);
  const uint64_t rest = row_bytes_ - row_done_;
  if (packed_.regions == 0) {
    packed_.limit = LimitOf(options_.buffer_bytes, options_.packed_bytes_total, packed_done_);
    if (options_.packed_bytes_total > 0) {
      packed_.limit = std::min(packed_.limit, std::max(kTaperBytes, packed_done_));
    }
  }
  const uint64_t part = compat ? rest : std::min(rest, packed_.limit - start);
  const Region region{rows_ - 1, row_done_, part, start};
  packed_.fill = start + part;
  ++packed_.regions;
  row_done_ += part;
  return Event{.kind = Event::Kind::kRegion, .direct = false, .region = region};
}

// Bytes of the next step of a kind that may have `most`, after `done` of `total` bytes.
uint64_t Planner::LimitOf(uint64_t most, uint64_t total, uint64_t done) {
  if (total == 0) return most;
  return std::min(most, std::max(AlignUp((total - std::min(done, total)) / 3), kTaperBytes));
}

// A region of 0 bytes means that the open step has no room for a useful part.
Planner::Event Planner::PlaceDirect() {
  if (direct_.regions == 0) {
    direct_.limit =
        LimitOf(options_.direct_bytes_per_step, options_.direct_bytes_total, direct_done_);
  }
  const uint64_t rest = row_bytes_ - row_done_;
  uint64_t part = std::min(rest, direct_.limit - direct_.fill);
  // Parts but the last stay multiples of 256, as the sink's alignment promises need.
  if (part < rest) part -= part % limits::kAlignBytes;
  const Region region{rows_ - 1, row_done_, part, 0};
  if (part > 0) {
    direct_.fill += part;
    ++direct_.regions;
    row_done_ += part;
  }
  return Event{.kind = Event::Kind::kRegion, .direct = true, .region = region};
}

StatusOr<Planner::Event> Planner::Close(bool direct) {
  Open& open = direct ? direct_ : packed_;
  if (++steps_ > limits::kPlanSteps ||
      (regions_ += open.regions) > std::numeric_limits<uint32_t>::max()) {
    return InvalidArgument("the plan has more than " + std::to_string(limits::kPlanSteps) +
                           " steps; use a larger buffer than " +
                           std::to_string(options_.buffer_bytes) + " bytes");
  }
  const Event event{.kind = Event::Kind::kStep,
                    .direct = direct,
                    .step_bytes = open.fill,
                    .regions = open.regions};
  (direct ? direct_done_ : packed_done_) += AlignUp(open.fill);
  open = Open{};
  return event;
}

namespace {

// Moves the regions of a closed step into the plan.
void AppendStep(const Planner::Event& event, std::vector<Region>* regions, Plan* plan) {
  const auto begin = static_cast<uint32_t>(plan->regions.size());
  plan->regions.insert(plan->regions.end(), regions->begin(), regions->end());
  plan->steps.push_back({event.direct, begin, begin + event.regions, event.step_bytes});
  plan->wire_bytes += event.step_bytes;
  if (!event.direct) plan->largest_step = std::max(plan->largest_step, event.step_bytes);
  regions->clear();
}

}  // namespace

StatusOr<Plan> MakePlan(const Manifest& manifest, const PlanOptions& options) {
  PC_ASSIGN_OR_RETURN(Planner planner, Planner::Make(options));
  if (!options.direct_rows.empty() && options.direct_rows.back() >= manifest.size()) {
    return InvalidArgument("direct row " + std::to_string(options.direct_rows.back()) +
                           " is out of range: the manifest has " + std::to_string(manifest.size()) +
                           " rows");
  }
  Plan plan;
  std::vector<Region> packed;
  std::vector<Region> direct;
  while (true) {
    PC_ASSIGN_OR_RETURN(const Planner::Event event, planner.Next());
    switch (event.kind) {
      case Planner::Event::Kind::kRegion:
        (event.direct ? direct : packed).push_back(event.region);
        break;
      case Planner::Event::Kind::kStep:
        AppendStep(event, event.direct ? &direct : &packed, &plan);
        break;
      case Planner::Event::Kind::kNeedRow:
        if (planner.rows() < manifest.size()) {
          planner.AddRow(manifest.row_bytes(planner.rows()));
        } else {
          planner.Finish();
        }
        break;
      case Planner::Event::Kind::kEnd:
        plan.digest = PlanDigest(manifest, options, plan);
        return plan;
    }
  }
}

}  // namespace packcast
