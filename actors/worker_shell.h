#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "actors/member_shell.h"
#include "actors/served_source.h"
#include "actors/serving_cell.h"
#include "actors/sink_binding.h"
#include "actors/source_pump.h"
#include "actors/weight_sink.h"

namespace packcast {

// A worker rank's actor: the machine, and the sink's callbacks on the drive queue. What belongs to
// the sink (binding, pause) is touched on the driving thread only.
class WorkerShell : public MemberShell {
 public:
  // What was installed, on its way to those that are behind; of one attempt.
  struct Sending {
    Sending(std::shared_ptr<const Manifest> manifest, const TargetMap& targets)
        : source(std::move(manifest), targets), pump([] {}) {}
    ServedSource source;
    SourcePump pump;
  };
  struct SinkSide {
    WeightSink* sink = nullptr;
    bool keeps_installed = false;  // SinkCaps::can_serve
    std::function<StatusOr<Digest>()> verify;
    SinkBinding binding;
    std::shared_ptr<Sending> sending;
    std::optional<Time> paused_since;  // in place: from Quiesce to Resume
    bool quiesce_open = false;         // its Done has not come
    std::function<void()> waiting;     // to do when it comes
    std::mutex mutex;                  // guards the two above: Done may come from any thread

    // The bank belongs to the binding, so it is looked up on the driving thread too.
    EpochInfo WithBank(EpochInfo info) const;
    // Makes `sending` of what serves.
    Status Lend(const std::shared_ptr<const Manifest>& manifest);
    // The sink serves what was written: turns to the next bank, and verifies.
    void AfterInstall(InstallDone* done);
  };

  WorkerShell(MemberConfig config, std::shared_ptr<Shared> shared,
              std::vector<Transport*> transports, std::shared_ptr<SinkSide> side,
              std::shared_ptr<ServingCell> serving);

 protected:
  MemberEffects Step(const TrainerEvent& event, Time now) override;
  const MemberMachine& machine() const override { return machine_; }
  void SetSelf(const MemberId& self) override { machine_.SetSelf(self); }
  Status Check() const override { return machine_.CheckInvariants(); }
  void Carry(Context& context, MemberEffect effect) override;
  void Publish() override;

 private:
  void Prepare(const PrepareAttempt& attempt);
  void StartReceiving(const StartStream& start);
  void StartSending(const StartStream& start);
  void Quiesce(const EpochKey& key);
  void Install(const EpochKey& key);
  void Abort(const EpochKey& key);
  void AbortSending(const EpochKey& key);
  UnpackCallback LoadCallback(const EpochKey& key);

  MemberMachine machine_;
  std::optional<EpochKey> written_;  // the last attempt whose bytes may be in the sink's memory
  std::shared_ptr<SinkSide> side_;
  std::shared_ptr<ServingCell> serving_;
};

}  // namespace packcast
