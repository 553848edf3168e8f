#pragma once

#include <memory>
#include <vector>

#include "actors/weight_source.h"
#include "protocol/manifest.h"
#include "runtime/data/target_map.h"

namespace packcast {

// What a worker has installed, as a source for those that are behind: all rows at once, from where
// they lie. The memory stays as it is for as long as somebody reads.
class ServedSource : public WeightSource {
 public:
  // Each row of `manifest` has one piece of memory in `targets` (SinkBinding::is_readable).
  ServedSource(std::shared_ptr<const Manifest> manifest, const TargetMap& targets);

  StatusOr<Manifest> Describe(const SyncRequest&) override { return *manifest_; }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) override;

 private:
  const std::shared_ptr<const Manifest> manifest_;
  std::vector<SourceTensor> rows_;
};

}  // namespace packcast
