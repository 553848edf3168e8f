#include "actors/held_ranges.h"

#include <algorithm>
#include <cstdint>
#include <string>

namespace packcast {

StatusOr<std::optional<std::vector<RowRange>>> HeldRanges(
    const std::optional<std::vector<Region>>& held, const Manifest& manifest) {
  if (!held) return std::optional<std::vector<RowRange>>();
  std::vector<uint32_t> rows;
  for (const Region& region : *held) {
    if (region.row >= manifest.size()) {
      return InvalidArgument("the weight source says that it holds row " +
                             std::to_string(region.row) + "; the manifest has " +
                             std::to_string(manifest.size()) + " rows");
    }
    const uint64_t bytes = manifest.row_bytes(region.row);
    if (region.offset != 0 || region.bytes != bytes) {
      return Unimplemented("the weight source holds bytes " + std::to_string(region.offset) +
                           " to " + std::to_string(region.offset + region.bytes) + " of tensor \"" +
                           manifest.rows()[region.row].name + "\", which has " +
                           std::to_string(bytes) + ": only whole tensors can be held");
    }
    rows.push_back(region.row);
  }
  std::sort(rows.begin(), rows.end());
  std::vector<RowRange> ranges;
  for (const uint32_t row : rows) {
    if (!ranges.empty() && row < ranges.back().end) continue;  // named twice
    if (ranges.empty() || row != ranges.back().end) ranges.push_back({row, row});
    ++ranges.back().end;
  }
  return std::optional(std::move(ranges));
}

}  // namespace packcast
