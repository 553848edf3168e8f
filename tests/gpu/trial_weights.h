#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "actors/sources/memory_sink.h"
#include "actors/weight_sink.h"
#include "actors/weight_source.h"
#include "protocol/manifest.h"
#include "protocol/status.h"
#include "protocol/time.h"

// The weights of trials: on a device or in the host's memory, other ones with every label.
namespace packcast::trial {

struct WeightSize {
  uint64_t packed_mib = 0;  // in rows of 512 KiB
  uint64_t direct_mib = 0;  // in rows of 32 MiB
};

// The rows: as many of both kinds as that, a scalar, and one of an odd size.
std::vector<Row> TrialRows(const WeightSize& size);

// A source of these rows, on `device` or, without one, in the host's memory. Its bytes depend on
// the label alone. Failpoints: "member.open" when an attempt opens it, "member.next" for each row.
StatusOr<std::unique_ptr<WeightSource>> MakeTrialSource(const WeightSize& size,
                                                        std::optional<int> device);

// A memory sink. Failpoints: "member.bind", and "member.load" for each buffer of rows that are
// bound by callback.
class TrialSink final : public WeightSink {
 public:
  struct Options {
    Allocator* memory = nullptr;  // null: the host's
    bool by_callback = false;     // the host's only: rows come through Load
    std::function<Status()> after_bind;
  };
  explicit TrialSink(Options options);

  SinkCaps Caps() override { return sink_.Caps(); }
  StatusOr<Binding> Bind(const Manifest& manifest, InstallMode mode) override;
  void Quiesce(const EpochInfo& epoch, Done done) override;
  void Resume(const EpochInfo& epoch, EpochOutcome outcome) override;
  Status Load(const EpochInfo& epoch, const TensorGroup& group) override;
  void Install(const EpochInfo& epoch, Done done) override;
  void Discard(const EpochInfo& epoch) override { sink_.Discard(epoch); }

  // Of the memory that serves, read back, once it is back in service; waits for that up to
  // `max_wait`. Any thread.
  StatusOr<Digest> DigestAtRest(Duration max_wait);
  uint64_t held_bytes() const { return sink_.held_bytes(); }

 private:
  const Options options_;
  MemorySink sink_;
  Binding by_memory_;  // what the callbacks write
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_quiet_ = false;
};

}  // namespace packcast::trial
