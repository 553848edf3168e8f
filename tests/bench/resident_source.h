#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "actors/sources/row_cursor.h"
#include "actors/sources/row_memory.h"
#include "runtime/data/cuda/device.h"
#include "tests/bench/take.h"
#include "tests/gpu/fill.h"

namespace packcast::bench {

// Random weights that lie on a device, as a trainer's do.
class ResidentSource final : public WeightSource {
 public:
  ResidentSource(const std::vector<Row>& rows, int device)
      : manifest_(Take(Manifest::Make(rows))),
        memory_(Take(RowMemory::Allocate(manifest_, "weights", DeviceAllocator(device)))) {
    const ScopedDevice scoped(device);
    for (size_t k = 0; k < memory_.size(); ++k) {
      rows_.push_back(memory_.row(k).data());
      if (memory_.row(k).empty()) continue;
      Check(CudaStatus(
          testing::FillRandom(memory_.row(k).data(), memory_.row(k).size(), k + 1, nullptr),
          "filling"));
    }
    Check(CudaStatus(cudaDeviceSynchronize(), "filling"));
  }
  StatusOr<Manifest> Describe(const SyncRequest&) override { return manifest_; }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo&) override {
    return std::unique_ptr<Cursor>(std::make_unique<RowCursor>(&manifest_, &rows_, in_use_));
  }

 private:
  const Manifest manifest_;
  const RowMemory memory_;
  std::vector<const std::byte*> rows_;
  const GroupsInUse in_use_ = std::make_shared<std::atomic<int64_t>>(0);
};

}  // namespace packcast::bench
