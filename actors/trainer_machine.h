#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "actors/member_machine.h"

namespace packcast {

// The caller asks for a sync; resolved by exactly one SyncFinished effect.
struct UserSync {
  uint64_t label = 0;
  SyncKind kind = SyncKind::kFull;
  std::shared_ptr<const Manifest> manifest;
  bool supersede = false;
  std::optional<std::vector<RowRange>> held;  // rows that this rank can send; none: all
};
// The caller gives up (deadline, cancel). The call then resolves as the coordinator answers, or at
// once when there is none.
struct UserCancel {
  uint64_t label = 0;
  Status reason = Cancelled("the caller gave the sync up");
};

using TrainerEvent = std::variant<UserSync, UserCancel, MemberEvent>;

// A trainer rank: a member plus the sync calls of its user. At most two calls are open (one runs,
// one is queued at the coordinator); a third is Busy, or supersedes the queued one. Copyable, no
// I/O, not thread-safe.
class TrainerMachine {
 public:
  static constexpr size_t kOpenCalls = 2;

  explicit TrainerMachine(MemberConfig config) : member_(std::move(config)) {}

  // Before the first event.
  void SetSelf(const MemberId& self) { member_.SetSelf(self); }

  MemberEffects On(const TrainerEvent& event, Time now);
  Status CheckInvariants() const;
  const MemberMachine& member() const { return member_; }
  size_t open_calls() const { return calls_.size(); }

 private:
  struct Answer {
    Status status;
    Value report;
  };
  struct Call {
    UserSync sync;
    bool sent = false;
    std::optional<Answer> answer;  // resolves with it once its bytes are not read any more
  };
  void Begin(const UserSync& sync, MemberEffects* effects);
  void Cancel(const UserCancel& cancel, MemberEffects* effects);
  void Forward(const MemberEvent& event, Time now, MemberEffects* effects);
  void Carry(MemberEffects from, Time now, MemberEffects* effects);
  void EndSent(const std::string& why);
  void ResolveAnswered(MemberEffects* effects);
  bool Reads(uint64_t label) const;
  std::vector<Call>::iterator Find(uint64_t label);
  void SendWaiting(MemberEffects* effects);
  void Resolve(uint64_t label, const Status& status, const Value& report, MemberEffects* effects);

  MemberMachine member_;
  std::vector<Call> calls_;
  std::vector<Digest> told_;  // manifests whose rows went to this coordinator
};

}  // namespace packcast
