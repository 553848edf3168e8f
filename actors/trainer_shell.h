#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "actors/member_shell.h"
#include "actors/source_pump.h"
#include "actors/trainer.h"

namespace packcast {

// A trainer rank's actor: the machine, and the source's callbacks on the drive queue, which the
// thread inside Trainer::Sync drains.
class TrainerShell : public MemberShell {
 public:
  struct SourceSide {
    explicit SourceSide(std::function<void()> wake) : pump(std::move(wake)) {}
    WeightSource* source = nullptr;
    SourcePump pump;

    std::mutex mutex;                 // guards what follows
    std::condition_variable changed;  // requests, syncing or turning
    bool syncing = false;             // a thread is inside Sync
    bool turning = false;             // another drives the source, in WaitForRequest
    std::optional<uint64_t> open_label;
    std::optional<SyncResult> result;
    bool source_free = false;
    std::optional<EpochKey> keeping_pace;  // a rank that pulls and does not send
    std::deque<uint64_t> requests;         // labels that scripts asked for

    // Keeps a request; false when there are too many.
    bool Request(uint64_t label);
  };

  TrainerShell(MemberConfig config, std::shared_ptr<Shared> shared,
               std::vector<Transport*> transports, std::shared_ptr<SourceSide> side);

 protected:
  MemberEffects Step(const TrainerEvent& event, Time now) override;
  const MemberMachine& machine() const override { return machine_.member(); }
  void SetSelf(const MemberId& self) override { machine_.SetSelf(self); }
  Status Check() const override { return machine_.CheckInvariants(); }
  void Carry(Context& context, MemberEffect effect) override;

 private:
  void StartSending(const StartStream& start);
  void Abort(const AbortLocal& abort);

  TrainerMachine machine_;
  std::shared_ptr<SourceSide> side_;
};

}  // namespace packcast
