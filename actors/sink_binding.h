#pragma once

#include <cstdint>
#include <memory>
#include <optional>
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
  void Flip() {
    kept_ = bank_;
    bank_ = (bank_ + 1) % static_cast<uint32_t>(banks_.size());
  }
  // A stream is about to write bank().
  void Write() {
    if (kept_ == bank_) kept_.reset();
  }
  // What was installed is not what serves.
  void Forget() { kept_.reset(); }

  // Whether every row lies in one piece of memory, in all banks: what is installed can be read.
  bool is_readable() const { return readable_; }
  // The bank that was installed last, if nothing has been written there since; else null.
  const TargetMap* kept() const { return kept_ && readable_ ? &banks_[*kept_] : nullptr; }
  const Digest& manifest_digest() const { return digest_; }

 private:
  bool bound_ = false;
  Digest digest_;
  InstallMode mode_ = InstallMode::kStaged;
  std::vector<TargetMap> banks_;
  uint32_t bank_ = 0;
  std::optional<uint32_t> kept_;
  bool readable_ = false;
};

}  // namespace packcast
