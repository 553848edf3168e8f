#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "actors/weight_source.h"
#include "protocol/manifest.h"
#include "protocol/status.h"

namespace packcast::bench {

// Another source, of which it says when so many bytes of an attempt have left: at a moment in
// mid-transfer, found without a clock. Of rows that travel direct a group is released once the wire
// is through with it; packed ones somewhat earlier, by no more than the buffers hold. Used by the
// thread that drives the trainer.
class WatchedSource final : public WeightSource {
 public:
  explicit WatchedSource(std::unique_ptr<WeightSource> source) : source_(std::move(source)) {}

  // Once, in an attempt from now on: `call`, which must be quick, with the bytes that have left.
  void CallAt(uint64_t bytes, std::function<void(uint64_t left)> call) {
    at_ = bytes;
    call_ = std::move(call);
  }
  // What it was to call it has not called, and will not.
  bool Forget() { return std::exchange(call_, nullptr) != nullptr; }

  StatusOr<Manifest> Describe(const SyncRequest& request) override;
  std::optional<std::vector<Region>> Held() override { return source_->Held(); }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) override;

 private:
  class Walk;
  void Left(uint64_t bytes);

  const std::unique_ptr<WeightSource> source_;
  std::vector<uint64_t> row_bytes_;  // of the manifest described last
  uint64_t at_ = 0;
  std::function<void(uint64_t)> call_;
};

}  // namespace packcast::bench
