#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/data/broadcast.h"
#include "runtime/data/target_map.h"
#include "tests/runtime/data/broadcast_cases.h"

namespace packcast::testing {

// Where a row's bytes go in the member's memory.
struct PlacedTarget {
  RowTarget::Kind kind = RowTarget::Kind::kMemory;
  struct Part {
    uint64_t offset = 0;  // in the row
    uint64_t bytes = 0;
    uint64_t at = 0;  // in the member's memory
  };
  std::vector<Part> parts;  // ascending by offset; what none covers is dropped
};

// A broadcast between the memories of two ranks, with everything's place in them.
struct DeviceCase {
  std::vector<TestTensor> tensors;
  std::vector<uint64_t> sources;  // each tensor's place in the root's memory
  std::vector<PlacedTarget> targets;
  uint64_t source_bytes = 0;
  uint64_t target_bytes = 0;
  BroadcastOptions options;
  std::array<uint32_t, 2> counts = {2, 2};  // buffers of each rank
  bool lends_rings = true;                  // else each end makes its own
};

// The tensors one after the other, aligned to 256 in both memories, a guard between them.
DeviceCase PlainCase(std::vector<TestTensor> tensors, const PlanOptions& plan);

// Random ones: CaseMaker's tensors and settings, sometimes with larger tensors and buffers; sources
// and targets at any alignment; targets in parts, fused with those of other rows or not.
class DeviceCaseMaker {
 public:
  explicit DeviceCaseMaker(uint64_t seed) : maker_(seed) {}
  DeviceCase Make();
  uint32_t Below(uint32_t limit) { return maker_.Below(limit); }

 private:
  struct Place {
    size_t row = 0;
    size_t part = 0;
  };
  void Enlarge(Case* c);
  void PlaceSources(DeviceCase* made);
  void ChooseTargets(DeviceCase* made);
  void PlaceTargets(DeviceCase* made);
  std::vector<PlacedTarget::Part> Cut(uint64_t bytes);

  CaseMaker maker_;
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr uint64_t kDeviceCases = 60;
#else
inline constexpr uint64_t kDeviceCases = 400;
#endif

}  // namespace packcast::testing
