#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "actors/weight_sink.h"
#include "protocol/manifest.h"
#include "runtime/data/target_map.h"

namespace packcast {

// A sink's binding of one manifest, checked and turned into what the consumer copies by; and which
// of its banks is written next. Used on one thread.
class SinkBinding {
 public:
  // Binds when manifest or mode changed. Errors: the sink's; kInvalidArgument, with the row, for
  // targets that are out of range, overlap or leave a gap.
  Status Bind(WeightSink* sink, const Manifest& manifest, InstallMode mode);

  uint32_t bank() const { return bank_; }
  const TargetMap* targets() const { return &banks_[bank_]; }
  // The bank just written serves; the next epoch writes another, when there is one.
  void Flip() { bank_ = (bank_ + 1) % static_cast<uint32_t>(banks_.size()); }

 private:
  bool bound_ = false;
  Digest digest_;
  InstallMode mode_ = InstallMode::kStaged;
  std::vector<TargetMap> banks_;
  uint32_t bank_ = 0;
};

}  // namespace packcast
