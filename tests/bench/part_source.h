#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "actors/weight_source.h"
#include "protocol/manifest.h"
#include "protocol/status.h"

namespace packcast::bench {

// Another source, of whose rows this trainer rank says that it holds one of `parts` runs, about as
// large as the others.
class PartSource final : public WeightSource {
 public:
  PartSource(std::unique_ptr<WeightSource> source, uint64_t part, uint64_t parts)
      : source_(std::move(source)), part_(part), parts_(parts) {}

  StatusOr<Manifest> Describe(const SyncRequest& request) override {
    PC_ASSIGN_OR_RETURN(Manifest manifest, source_->Describe(request));
    held_.clear();
    const uint64_t share = manifest.total_bytes() / parts_ + 1;
    uint64_t before = 0;
    for (uint32_t row = 0; row < manifest.size(); ++row) {
      const uint64_t bytes = manifest.row_bytes(row);
      if (before / share == part_) held_.push_back({row, 0, bytes, 0});
      before += bytes;
    }
    return manifest;
  }
  std::optional<std::vector<Region>> Held() override { return held_; }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) override {
    return source_->Open(epoch);
  }

 private:
  const std::unique_ptr<WeightSource> source_;
  const uint64_t part_;
  const uint64_t parts_;
  std::vector<Region> held_;
};

}  // namespace packcast::bench
