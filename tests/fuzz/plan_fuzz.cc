// Rows, the manifest of them, on the wire and back, and plans of it: under a contract's flow, and
// under any options.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "protocol/contract.h"
#include "protocol/manifest_cache.h"
#include "runtime/base/check.h"
#include "tests/fuzz/fill.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/plan_checks.h"

using namespace packcast;

namespace {

constexpr size_t kRowsMax = 64;

Row TakeRow(fuzz::Input* in, fuzz::Filler* filler, size_t number) {
  Row row;
  row.name = in->OneIn(32) ? filler->Text() : "row." + std::to_string(number);
  row.dtype = static_cast<Dtype>(in->Below(kDtypeCount));
  for (size_t k = in->Below(4); k > 0; --k) {
    row.shape.push_back(static_cast<int64_t>(in->Flag() ? in->Byte() : filler->Number()));
  }
  row.group = in->Byte();
  if (in->OneIn(16)) row.auxiliary = {filler->Text()};
  if (in->OneIn(32)) row.encoding = filler->Text();
  return row;
}

// What arrives is what was sent, whole or not at all.
void CheckTravels(const Manifest& manifest) {
  ManifestCache cache;
  for (const ManifestPart& part : ManifestParts(manifest)) {
    PC_CHECK(cache.Find(manifest.digest()) == nullptr);
    const Status status = cache.Add(part);
    PC_CHECK(status.ok()) << status;
  }
  const auto arrived = cache.Find(manifest.digest());
  PC_CHECK(arrived != nullptr && arrived->rows() == manifest.rows());
  PC_CHECK(arrived->total_bytes() == manifest.total_bytes());
}

std::vector<RowRange> TakeRanges(fuzz::Input* in, fuzz::Filler* filler) {
  if (in->OneIn(8)) return filler->Make<std::vector<RowRange>>();
  std::vector<RowRange> ranges;
  uint32_t at = 0;
  for (size_t k = in->Below(4); k > 0; --k) {
    const auto begin = static_cast<uint32_t>(at + in->Below(8));
    at = static_cast<uint32_t>(begin + 1 + in->Below(8));
    ranges.push_back({begin, at++});
  }
  return ranges;
}

uint64_t TakeBufferBytes(fuzz::Input* in, fuzz::Filler* filler) {
  if (in->OneIn(8)) return filler->Number();
  return (uint64_t{1} + in->Below(8)) << (8 + in->Below(24));
}

void TryFlow(const Manifest& manifest, fuzz::Input* in, fuzz::Filler* filler) {
  Contract contract;
  contract.layout = in->OneIn(3) ? Layout::kCompat : Layout::kAligned;
  contract.buffer_bytes = TakeBufferBytes(in, filler);
  contract.buffer_count = 2;
  Flow flow;
  flow.transport = "zmq";
  flow.members.resize(2);
  flow.rows = TakeRanges(in, filler);
  flow.direct_bytes_min = in->Flag() ? filler->Number() : 0;
  contract.flows = {flow};
  if (!CheckFlows(contract).ok()) return;
  const PlanOptions options = PlanOptionsOf(contract, flow, manifest);
  PC_CHECK(options.buffer_bytes <= contract.buffer_bytes);
  if (fuzz::IsLong(manifest, options)) return;
  const StatusOr<Plan> plan = MakePlan(manifest, options);
  if (plan.ok()) fuzz::CheckPlan(manifest, options, *plan);
  const bool good_buffer =
      contract.buffer_bytes >= limits::kBufferBytesMin &&
      contract.buffer_bytes <= limits::kBufferBytesMax &&
      (contract.layout == Layout::kCompat || contract.buffer_bytes % limits::kAlignBytes == 0);
  PC_CHECK(plan.ok() || !good_buffer) << plan.status();
}

void TryOptions(const Manifest& manifest, fuzz::Input* in, fuzz::Filler* filler) {
  PlanOptions options;
  options.layout = in->OneIn(3) ? Layout::kCompat : Layout::kAligned;
  options.buffer_bytes = TakeBufferBytes(in, filler);
  options.direct_bytes_min = filler->Number();
  options.direct_regions_per_step = static_cast<uint32_t>(filler->Number());
  options.direct_bytes_per_step = in->Flag() ? 256 * (1 + in->Below(255)) : filler->Number();
  if (in->Flag()) options.direct_bytes_total = filler->Number();
  if (in->Flag()) options.packed_bytes_total = filler->Number();
  options.rows = TakeRanges(in, filler);
  uint32_t row = 0;
  for (size_t k = in->Below(8); k > 0; --k) {
    row = static_cast<uint32_t>(row + in->Below(8));
    options.direct_rows.push_back(row);
  }
  if (fuzz::IsLong(manifest, options)) return;
  const StatusOr<Plan> plan = MakePlan(manifest, options);
  if (plan.ok()) fuzz::CheckPlan(manifest, options, *plan);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  const fuzz::Pools pools{.texts = {"a", "b", "", "\xff"}, .digests = {}, .keys = {}};
  fuzz::Filler filler(&in, &pools);
  std::vector<Row> rows;
  for (size_t count = in.Below(kRowsMax); rows.size() < count && !in.empty();) {
    rows.push_back(TakeRow(&in, &filler, rows.size()));
  }
  for (const Row& row : rows) {
    const StatusOr<Row> again = RowFromValue(RowToValue(row));
    PC_CHECK(again.ok() && *again == row) << again.status();
  }
  const StatusOr<Manifest> manifest = Manifest::Make(std::move(rows));
  if (!manifest.ok()) return 0;
  CheckTravels(*manifest);
  while (!in.empty()) {
    in.Flag() ? TryFlow(*manifest, &in, &filler) : TryOptions(*manifest, &in, &filler);
  }
  return 0;
}
