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
      : device_(device),
        manifest_(Take(Manifest::Make(rows))),
        memory_(Take(RowMemory::Allocate(manifest_, "weights", DeviceAllocator(device)))) {
    for (size_t k = 0; k < memory_.size(); ++k) rows_.push_back(memory_.row(k).data());
    Refill(0);
  }

  // Other bytes for another seed. Between syncs.
  void Refill(uint64_t seed) {
    const ScopedDevice scoped(device_);
    for (size_t k = 0; k < memory_.size(); ++k) {
      if (memory_.row(k).empty()) continue;
      const uint64_t row_seed = (seed << 32) + k + 1;
      Check(CudaStatus(
          testing::FillRandom(memory_.row(k).data(), memory_.row(k).size(), row_seed, nullptr),
          "filling"));
    }
    Check(CudaStatus(cudaDeviceSynchronize(), "filling"));
  }

  StatusOr<Manifest> Describe(const SyncRequest&) override { return manifest_; }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo&) override {
    return std::unique_ptr<Cursor>(std::make_unique<RowCursor>(&manifest_, &rows_, in_use_));
  }

 private:
  const int device_;
  const Manifest manifest_;
  const RowMemory memory_;
  std::vector<const std::byte*> rows_;
  const GroupsInUse in_use_ = std::make_shared<std::atomic<int64_t>>(0);
};

}  // namespace packcast::bench
