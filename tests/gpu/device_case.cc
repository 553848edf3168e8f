#include "tests/gpu/device_case.h"

#include <algorithm>
#include <utility>

namespace packcast::testing {
namespace {

constexpr uint64_t kGuard = 64;

uint64_t Align(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

uint64_t MemoryBytes(const TestTensor& tensor) {
  return tensor.memory.empty() ? tensor.wire.size() : tensor.memory.size();
}

}  // namespace

DeviceCase PlainCase(std::vector<TestTensor> tensors, const PlanOptions& plan) {
  DeviceCase made;
  made.options.plan = plan;
  for (const TestTensor& tensor : tensors) {
    made.sources.push_back(Align(made.source_bytes, 256));
    made.source_bytes = made.sources.back() + MemoryBytes(tensor) + kGuard;
    const uint64_t at = Align(made.target_bytes, 256);
    made.targets.push_back({RowTarget::Kind::kMemory, {{0, tensor.wire.size(), at}}});
    made.target_bytes = at + tensor.wire.size() + kGuard;
  }
  made.tensors = std::move(tensors);
  return made;
}

DeviceCase DeviceCaseMaker::Make() {
  Case c = maker_.Make();
  if (Below(4) == 0) Enlarge(&c);
  DeviceCase made;
  made.tensors = std::move(c.tensors);
  made.options = c.options;
  made.counts = {c.counts[0], c.counts[1]};
  made.lends_rings = Below(2) == 0;
  PlaceSources(&made);
  ChooseTargets(&made);
  PlaceTargets(&made);
  return made;
}

// Rows of several pieces, and of several buffers.
void DeviceCaseMaker::Enlarge(Case* c) {
  PlanOptions& plan = c->options.plan;
  plan.buffer_bytes = 256 * (1 + Below(4096));
  const bool direct = plan.direct_bytes_min > 0;
  if (direct) plan.direct_bytes_per_step = 256 * (1 + Below(8192));
  for (uint32_t left = 1 + Below(3); left > 0; --left) {
    const auto row = static_cast<uint32_t>(c->tensors.size());
    const auto dtype = static_cast<Dtype>(Below(kDtypeCount));
    const uint32_t elements = 1 + Below(16'000'000) / static_cast<uint32_t>(DtypeBits(dtype));
    std::vector<int64_t> shape = {elements};
    if (Below(2) == 0) {
      const uint32_t inner = 1 + Below(700);
      shape = {1 + elements / inner, inner};
    }
    c->tensors.push_back(maker_.MakeRow(row, dtype, shape));
    if (direct && CaseMaker::MayGoDirect(c->tensors.back()) && Below(3) != 0) {
      plan.direct_rows.push_back(row);
    }
  }
}

void DeviceCaseMaker::PlaceSources(DeviceCase* made) {
  uint64_t end = Below(40);
  for (const TestTensor& tensor : made->tensors) {
    // Every alignment, and the aligned ones often.
    const uint64_t at = Align(end, uint64_t{1} << Below(9));
    made->sources.push_back(at);
    end = at + MemoryBytes(tensor);
  }
  made->source_bytes = end + Below(2) * kGuard;
}

// Up to 64 parts; some of the row is dropped.
std::vector<PlacedTarget::Part> DeviceCaseMaker::Cut(uint64_t bytes) {
  std::vector<PlacedTarget::Part> parts;
  const bool whole = Below(2) == 0;
  const auto longest = static_cast<uint32_t>(std::max<uint64_t>(1 + Below(700), bytes / 32));
  for (uint64_t offset = 0; offset < bytes;) {
    const uint64_t rest = bytes - offset;
    const bool last = whole || parts.size() == 63;
    const uint64_t part = last ? rest : std::min<uint64_t>(rest, 1 + Below(longest));
    if (whole || Below(10) != 0) parts.push_back({offset, part, 0});
    offset += part;
  }
  return parts;
}

void DeviceCaseMaker::ChooseTargets(DeviceCase* made) {
  const std::vector<uint32_t>& direct = made->options.plan.direct_rows;
  for (uint32_t row = 0; row < made->tensors.size(); ++row) {
    const uint64_t bytes = made->tensors[row].wire.size();
    PlacedTarget target;
    if (std::binary_search(direct.begin(), direct.end(), row)) {
      // What may arrive where it belongs has one place.
      target.parts = {{0, bytes, 0}};
    } else if (Below(8) == 0) {
      target.kind = Below(3) == 0 ? RowTarget::Kind::kSkip : RowTarget::Kind::kCallback;
    } else {
      target.parts = Cut(bytes);
    }
    made->targets.push_back(std::move(target));
  }
}

void DeviceCaseMaker::PlaceTargets(DeviceCase* made) {
  std::vector<Place> places;
  for (size_t row = 0; row < made->targets.size(); ++row) {
    for (size_t part = 0; part < made->targets[row].parts.size(); ++part) {
      places.push_back({row, part});
    }
  }
  // Parts of different rows beside each other, as fused weights have them.
  if (Below(2) == 0) std::shuffle(places.begin(), places.end(), *maker_.rng());
  const bool guarded = Below(2) == 0;
  uint64_t end = Below(40);
  for (const Place& place : places) {
    PlacedTarget::Part& part = made->targets[place.row].parts[place.part];
    if (guarded) end += Below(kGuard);
    if (Below(2) == 0) end = Align(end, uint64_t{1} << Below(9));
    part.at = end;
    end += part.bytes;
  }
  made->target_bytes = end + Below(2) * kGuard;
}

}  // namespace packcast::testing
