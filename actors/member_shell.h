#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "actors/drive_queue.h"
#include "actors/flow_engine.h"
#include "actors/local_inbox.h"
#include "actors/trainer_machine.h"
#include "actors/weight_source.h"
#include "runtime/actor/actor.h"
#include "runtime/base/failpoint.h"

namespace packcast {

// A coordinator was found; `ref` is bound to its life.
struct LinkUp {
  ActorRef ref;
};

// No coordinator will ever take this life of the member (again).
struct LinkRefused {
  Status why;
};

// Tells the coordinator goodbye.
struct LeaveNow {};

using ShellEvent = std::variant<LinkUp, LinkRefused, LeaveNow, UserSync, UserCancel, MemberEvent>;

// The part of trainer and worker shells that is the same: an actor that feeds a machine with
// messages, peer events and local results, and carries out the effects that do not depend on the
// role. Its inbox and drive queue are shared with the public handle, which outlives the actor.
class MemberShell : public Actor {
 public:
  struct Shared {
    LocalInbox<ShellEvent> inbox;
    DriveQueue drive;
    std::atomic<bool> stopped{false};
    // Published after each step; any thread.
    std::mutex mutex;              // guards what follows
    std::function<void()> search;  // looks for a coordinator again
    Status stop_status;            // why it is stopped; kCancelled: in good order
    bool joined = false;
    MemberPhase phase = MemberPhase::kIdle;

    // The member is out for good; the first reason counts.
    void Stop(const Status& why);
  };

  MemberShell(std::shared_ptr<Shared> shared, std::vector<Transport*> transports);

  void OnStart(Context& context) override;
  void OnMessage(Context& context, Message message) override;
  void OnTimer(Context& context, TimerId timer) override;
  void OnPeer(Context& context, const PeerEvent& event) override;

 protected:
  // Steps the role's machine.
  virtual MemberEffects Step(const TrainerEvent& event, Time now) = 0;
  virtual const MemberMachine& machine() const = 0;
  // The actor's life is known only once it runs.
  virtual void SetSelf(const MemberId& self) = 0;
  virtual Status Check() const = 0;
  // Effects that the role carries out.
  virtual void Carry(Context& context, MemberEffect effect) = 0;
  // After each step, on the actor.
  virtual void Publish() {}

  void Post(MemberEvent event) { shared_->inbox.Post(std::move(event)); }
  FlowEngine& engine() { return engine_; }
  Shared& shared() { return *shared_; }
  const std::shared_ptr<Shared>& shared_ptr() { return shared_; }
  EpochInfo InfoOf(const EpochKey& key) const;
  // Before or after local work; an error fails it.
  Status WorkFailpoint(std::string_view work) const { return Failpoint({role_name(), work}); }

  // Of the attempt prepared last.
  PrepareAttempt attempt_;

 private:
  void Feed(Context& context, const TrainerEvent& event);
  std::string_view role_name() const { return RoleName(machine().config().role); }
  void HandleLocal(Context& context, ShellEvent event);
  void CarryCommon(Context& context, MemberEffect effect);
  void SendProgress(Context& context);
  void ArmProgress(Context& context);

  std::shared_ptr<Shared> shared_;
  FlowEngine engine_;
  ActorRef coordinator_;
  std::optional<TimerId> progress_timer_;
};

}  // namespace packcast
