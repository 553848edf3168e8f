#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "actors/epoch.h"
#include "actors/membership.h"
#include "actors/standing.h"
#include "protocol/contract.h"
#include "protocol/manifest_cache.h"
#include "protocol/messages.h"
#include "protocol/time.h"

namespace packcast {

// ---- events ---------------------------------------------------------------------------------

struct FromMember {
  MemberId from;
  MemberMessage message;
};
// The member's process is gone (kPeerDied), not reachable (kUnavailable) or left (kCancelled).
struct MemberLost {
  MemberId member;
  Status cause;
};
// A member that was lost is reachable again, in the same life: it may not know that it is out.
struct MemberBack {
  MemberId member;
};
// The member's process says that it will not answer until then; a time that is over: that it does
// again.
struct MemberBusy {
  MemberId member;
  Time until;
  std::string why;
};
// A call from a script or the launcher; answered by exactly one ReplyControl.
struct ControlCall {
  uint64_t token = 0;
  std::string method;
  Value body;
};
// Time has passed; sent at or soon after the time of every WakeAt. Extra ones do no harm.
struct Tick {};

using CoordinatorEvent =
    std::variant<FromMember, MemberLost, MemberBack, MemberBusy, ControlCall, Tick>;

// ---- effects --------------------------------------------------------------------------------

// Long messages that go to many are one: who sends them encodes it once.
struct SendToMember {
  MemberId to;
  std::shared_ptr<const CoordinatorMessage> message;  // never null
};
struct ReplyControl {
  uint64_t token = 0;
  Status status;
  Value body;
};
// For subscribers: a map with "event" and its details.
struct PublishEvent {
  Value event;
};
struct WakeAt {
  Time at;
};
struct StopCoordinator {};

using CoordinatorEffect =
    std::variant<SendToMember, ReplyControl, PublishEvent, WakeAt, StopCoordinator>;
using CoordinatorEffects = std::vector<CoordinatorEffect>;

// ---- machine --------------------------------------------------------------------------------

struct CoordinatorConfig {
  std::string model = "default";
  Term term{1, 0};  // the nonce is random in a process
  ContractPolicy policy;
  EpochDeadlines deadlines;
  uint32_t min_replicas = 1;  // an epoch with fewer complete replicas waits, then fails
  BelowMin below_min = BelowMin::kFail;
  CommitPolicy commit = CommitPolicy::kAll;
  uint32_t max_attempts = 5;
};

// Decides: who is in, what the contract is, when an epoch commits or is given up. Copyable, no
// I/O, not thread-safe. docs/protocol.md has its state diagram.
class CoordinatorMachine {
 public:
  explicit CoordinatorMachine(CoordinatorConfig config);

  CoordinatorEffects On(const CoordinatorEvent& event, Time now);
  // OK, or which invariant is broken (a bug).
  Status CheckInvariants() const;

  // When the next Tick is due, if one is.
  std::optional<Time> NextDeadline() const;

  const Term& term() const { return term_; }
  const std::string& model() const { return config_.model; }
  const Membership& membership() const { return membership_; }
  const std::optional<Epoch>& epoch() const { return epoch_; }
  const ContractPolicy& policy() const { return config_.policy; }
  CommitPolicy commit() const { return config_.commit; }
  const std::deque<Value>& reports() const { return reports_; }
  std::optional<Version> last_committed() const { return last_committed_; }

 private:
  struct PendingSync {
    uint64_t label = 0;
    Digest manifest_digest;
    std::vector<MemberId> callers;
    HeldRows held;
  };
  struct SyncWaiter {  // a script that asked for a sync
    uint64_t token = 0;
    uint64_t label = 0;
    Time deadline;
  };
  struct Generation {
    GenerationId id;
    std::vector<MemberId> members;  // the root first
    std::string transport;
    uint32_t cta_count_max = 0;
    bool relays = false;

    bool Carries(const Flow& flow) const;
    bool Has(const MemberId& member) const;
  };

  // What the last epoch agreed on, for as long as nothing of it changes.
  struct Settled {
    Contract contract;
    Digest contract_digest;
    Duration transfer_limit{};
    Digest manifest_digest;
    std::vector<GenerationId> generations;
    HeldRows held;
    std::vector<MemberId> members;
    bool offers_changed = false;
  };

  // A replica that is behind, for as long as it is.
  struct Behind {
    bool told = false;
    uint32_t failures = 0;  // catch-ups in a row
    Time next_try{};
    std::string why;  // the last one failed
  };
  // Who was asked for the rows of what it serves.
  struct RowsWanted {
    MemberId from;
    Digest digest;
    Time deadline;
    ManifestCache parts;  // apart from the trainers', which may come at the same time
  };

  // coordinator_machine.cc: members and sync calls
  void Handle(const FromMember& event);
  void Handle(const MemberLost& event);
  void Handle(const MemberBack& event);
  void Handle(const Tick& event);
  void HandleJoin(const MemberId& from, const JoinCluster& join);
  // OK, or why this member may not come in, now or ever.
  Status CheckJoin(const MemberId& from, const JoinCluster& join) const;
  // A term that is not below ours, and not ours.
  bool PromisedAbove(const JoinCluster& join) const;
  void RaiseTerm(uint64_t above);
  void Supersede(const MemberId& old);
  void LoseCaller(const MemberId& member, const Status& cause);
  void FailWaiters(const Status& cause);
  void HandleSyncCall(const MemberId& from, const SyncCall& call);
  bool RefuseOther(size_t index, const PendingSync& alone);
  void HandleSyncCancel(const MemberId& from, const SyncCancel& cancel);
  void AnswerSync(const PendingSync& sync, const Status& status, const Value& report);
  void DropPending(const Status& why);
  void StartNextSync();
  void ExpireWaiters();
  void Stop();

  // coordinator_epoch.cc: one epoch
  void BeginEpoch(const PendingSync& sync);
  void Propose();
  bool IsSettled();
  StatusOr<Contract> ContractOfOffers() const;
  void GoAhead();
  void HandleEpochMessage(const MemberId& from, const MemberMessage& message);
  bool IsAsked(const Participant& participant, const MemberMessage& message) const;
  void OnAnswer(Participant* participant, const MemberMessage& message);
  void TakeRendezvous(const MemberId& from, const std::vector<FlowRendezvous>& made);
  const FlowRendezvous* FindRendezvous(FlowId flow, uint32_t rank) const;
  void OnProgress(Participant* participant, const Progress& progress);
  void OnStaged(Participant* participant, const Staged& staged);
  void PublishProgress(const Participant& participant);
  bool StreamsEarly(const Participant& participant);
  void OnInstalled(Participant* participant, const Installed& installed);
  void Advance();
  void DecideContract();
  void ChooseGenerations();
  void SendPrepare();
  void SendRendezvous(Participant* participant);
  void AfterPrepared();
  void QuiesceOrStart();
  void StartTransfer();
  void DecideCommit();
  void EndDecided();
  std::string WhoseContentIsWrong(const Participant& a, const Participant& b) const;
  void EnterPhase(EpochPhase phase, Duration limit);
  void OnPhaseDeadline();
  // `parts`: the rows' messages, made with the first that needs them.
  using SharedMessages = std::vector<std::shared_ptr<const CoordinatorMessage>>;
  void SendRows(const Participant& participant, SharedMessages* parts);

  // coordinator_busy.cc: waiting for those that are busy
  void Handle(const MemberBusy& event);
  uint64_t BusyMs(const Member& member) const;
  void PutDeadlineOff();
  void TellBusy(const Member& member);
  void TellWhoIsBusy();

  // coordinator_each.cc: replicas that are decided alone
  void DecideReplicas();
  bool MayDecide(const std::string& unit) const;
  void DecideReplica(const std::string& unit);
  void OnDecided(Participant* participant, const MemberMessage& message);
  void AfterPartedAbort();

  // coordinator_abort.cc: giving an attempt up, trying again, ending
  void BeginAbort(const Status& reason, const std::string& culprit, bool final);
  void GiveUp();
  void OnTrouble(Participant* participant, const MemberMessage& message);
  void OnFailed(Participant* participant, const Failed& failed);
  void OnHearsay(const Participant& from, const Status& reason, const std::string& culprit);
  void JudgeSuspect();
  void LoseParticipant(const MemberId& member, const Status& cause);
  void BlameLate(const Status& reason, const std::string& culprit);
  void ExpelUnit(const std::string& unit, const std::string& culprit, const Status& reason);
  void ExpelSilent(const Participant& participant, const Status& reason);
  void DrainWhenHalted();
  void AfterAbort();
  void NextAttempt();
  void EndEpoch(Status status);  // by value: it is often the epoch's own
  void EndSync(const Status& status);

  // coordinator_catch_up.cc: those that are behind, while no epoch runs
  void LookForBehind();
  bool HasNews(const Standing& standing) const;
  void TellBehind(const Standing& standing);
  std::vector<std::string> DueForCatchUp(const Standing& standing) const;
  std::optional<Time> NextTry(const Standing& standing) const;
  void TryCatchUp(const Standing& standing, const std::vector<std::string>& replicas);
  std::shared_ptr<const Manifest> RowsOf(const Member& provider);
  void TakeRows(const MemberId& from, const ManifestPart& part);
  void GiveRowsUp(const std::string& why);
  void BeginCatchUp(const Standing& standing, const Member& provider,
                    const std::vector<std::string>& replicas,
                    std::shared_ptr<const Manifest> manifest);
  void ForgetGenerations();
  bool CheckProvided();
  void DropCatchUp(const Status& why);
  void EndCatchUp(const Status& status);
  void PutOff(const Status& status);
  void PutOff(const std::string& replica, const std::string& why);
  bool Runs(uint64_t label) const {  // a sync
    return epoch_ && !epoch_->catch_up && epoch_->label == label;
  }

  // coordinator_control.cc: scripts
  void Handle(const ControlCall& call);
  StatusOr<std::optional<Value>> Control(const ControlCall& call);
  StatusOr<std::optional<Value>> ControlSync(const ControlCall& call);
  std::set<uint64_t> OpenLabels() const;
  StatusOr<std::optional<Value>> ControlCancel(const ControlCall& call);
  StatusOr<std::optional<Value>> ControlLimits(const ControlCall& call);
  Value LimitsValue() const;
  Value StatusValue() const;
  Value MembersValue() const;
  std::string StandingOfReplica(const Standing& standing, const std::string& replica) const;

  void Emit(CoordinatorEffect effect) { effects_.push_back(std::move(effect)); }
  void Send(const MemberId& to, CoordinatorMessage message) {
    Emit(SendToMember{to, Shared(std::move(message))});
  }
  static std::shared_ptr<const CoordinatorMessage> Shared(CoordinatorMessage message) {
    return std::make_shared<const CoordinatorMessage>(std::move(message));
  }
  void SendToAll(const CoordinatorMessage& message);
  void Publish(std::string_view name, ValueMap details);

  CoordinatorConfig config_;
  Term term_;
  Time now_{};
  Membership membership_;
  ManifestCache manifests_;
  std::optional<Epoch> epoch_;
  uint64_t last_epoch_ = 0;
  uint64_t last_generation_ = 0;
  uint64_t last_label_ = 0;
  std::vector<Generation> generations_;  // of the last contract's flows, but for retired ones
  std::optional<Settled> settled_;
  std::optional<Version> last_committed_;
  std::deque<PendingSync> pending_;  // front is next
  std::vector<SyncWaiter> waiters_;
  std::vector<FromMember> late_joins_;     // reported a higher term while an epoch ran
  std::map<std::string, MemberId> lives_;  // the latest of each name, lost ones too
  std::deque<MemberId> superseded_;        // lives that a later start of their name has ended
  std::deque<Value> reports_;              // newest last, bounded
  std::map<std::string, Behind> behind_;   // replicas
  std::optional<Time> settle_until_;       // somebody is behind, and a catch-up may begin then
  std::optional<Time> look_again_at_;      // for those that are behind
  std::optional<RowsWanted> rows_wanted_;
  std::shared_ptr<const Manifest> rows_got_;  // of the last provider that was asked
  uint64_t provider_turn_ = 0;                // another one after each failure
  std::optional<Time> stop_at_;               // shutting down
  CoordinatorEffects effects_;
};

}  // namespace packcast
