#include "tests/sim/weights.h"

#include <array>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "tests/sim/random.h"

namespace packcast::sim {
namespace {

std::shared_ptr<const Manifest> MakeModel(size_t model) {
  static const std::array<std::vector<int64_t>, kModels> kCells{
      {{3, 1, 2, 1}, {1, 5, 1, 2}, {1, 1, 1, 1}, {1, 1, 2, 1, 1, 1, 3, 1, 1, 1}}};
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

CellPlan MakeCellPlan(const Manifest& manifest, const PlanOptions& options) {
  const Plan plan = MakePlan(manifest, options).value();
  std::vector<uint32_t> first_cell;
  uint32_t cells = 0;
  for (size_t row = 0; row < manifest.size(); ++row) {
    first_cell.push_back(cells);
    cells += static_cast<uint32_t>(manifest.row_bytes(row) / kCellBytes);
  }
  CellPlan out{plan.digest, {}};
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

uint32_t RowOf(const Manifest& manifest, uint32_t cell) {
  uint64_t end = 0;
  for (uint32_t row = 0; row < manifest.size(); ++row) {
    end += manifest.row_bytes(row) / kCellBytes;
    if (cell < end) return row;
  }
  return static_cast<uint32_t>(manifest.size());
}

const CellPlan& PlanOf(const Manifest& manifest, const Contract& contract, const Flow& flow) {
  using Ranges = std::vector<std::pair<uint32_t, uint32_t>>;
  static thread_local std::map<std::tuple<Digest, uint64_t, Ranges>, CellPlan> cache;
  Ranges rows;
  for (const RowRange& range : flow.rows) rows.emplace_back(range.begin, range.end);
  const auto key = std::tuple(manifest.digest(), contract.buffer_bytes, std::move(rows));
  const auto found = cache.find(key);
  if (found != cache.end()) return found->second;
  const PlanOptions options = PlanOptionsOf(contract, flow, manifest);
  return cache.emplace(key, MakeCellPlan(manifest, options)).first->second;
}

Digest PlansDigestOf(const Manifest& manifest, const Contract& contract) {
  if (contract.flows.size() == 1) return PlanOf(manifest, contract, contract.flows.front()).digest;
  std::string text;
  for (const Flow& flow : contract.flows) {
    const Digest digest = PlanOf(manifest, contract, flow).digest;
    for (const uint64_t word : {digest.hi, digest.lo}) {
      for (int k = 0; k < 8; ++k) text.push_back(static_cast<char>(word >> (8 * k)));
    }
  }
  return HashBytes(text);
}

Digest DigestOf(uint64_t word) { return {Mix(word), Mix(~word)}; }

}  // namespace packcast::sim
