#include "tests/sim/weights.h"

#include <array>
#include <map>
#include <string>
#include <utility>

#include "tests/sim/random.h"

namespace packcast::sim {
namespace {

std::shared_ptr<const Manifest> MakeModel(size_t model) {
  constexpr std::array<std::array<int64_t, 4>, kModels> kCells{
      {{3, 1, 2, 1}, {1, 5, 1, 2}, {1, 1, 1, 1}}};
  std::vector<Row> rows;
  for (size_t k = 0; k < kCells[model].size(); ++k) {
    Row row;
    row.name = "m" + std::to_string(model) + ".t" + std::to_string(k);
    row.dtype = Dtype::kU8;
    row.shape = {kCells[model][k] * static_cast<int64_t>(kCellBytes)};
    rows.push_back(std::move(row));
  }
  return std::make_shared<const Manifest>(Manifest::Make(std::move(rows)).value());
}

CellPlan MakeCellPlan(const Manifest& manifest, const Contract& contract) {
  PlanOptions options;
  options.layout = contract.layout;
  options.buffer_bytes = contract.buffer_bytes;
  const Plan plan = MakePlan(manifest, options).value();
  std::vector<uint32_t> first_cell;
  uint32_t cells = 0;
  for (size_t row = 0; row < manifest.size(); ++row) {
    first_cell.push_back(cells);
    cells += static_cast<uint32_t>(manifest.row_bytes(row) / kCellBytes);
  }
  CellPlan out{plan.digest, {}, cells};
  for (const Step& step : plan.steps) {
    std::vector<uint32_t>& in_step = out.steps.emplace_back();
    for (uint32_t k = step.region_begin; k < step.region_end; ++k) {
      const Region& region = plan.regions[k];
      for (uint64_t at = 0; at < region.bytes; at += kCellBytes) {
        in_step.push_back(first_cell[region.row] +
                          static_cast<uint32_t>((region.offset + at) / kCellBytes));
      }
    }
  }
  return out;
}

}  // namespace

std::shared_ptr<const Manifest> ModelManifest(size_t model) {
  static const std::array<std::shared_ptr<const Manifest>, kModels> kManifests = [] {
    std::array<std::shared_ptr<const Manifest>, kModels> all;
    for (size_t k = 0; k < kModels; ++k) all[k] = MakeModel(k);
    return all;
  }();
  return kManifests[model];
}

uint32_t ModelCells(const Manifest& manifest) {
  return static_cast<uint32_t>(manifest.total_bytes() / kCellBytes);
}

const CellPlan& PlanOf(const Manifest& manifest, const Contract& contract) {
  static std::map<std::pair<Digest, uint64_t>, CellPlan> cache;
  const auto key = std::pair(manifest.digest(), contract.buffer_bytes);
  const auto found = cache.find(key);
  if (found != cache.end()) return found->second;
  return cache.emplace(key, MakeCellPlan(manifest, contract)).first->second;
}

Digest DigestOf(const Words& words) {
  Digest sum{1, 1};
  for (const uint64_t word : words) {
    sum.hi += Mix(word);
    sum.lo += Mix(~word);
  }
  return sum;
}

}  // namespace packcast::sim
