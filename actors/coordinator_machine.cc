#include "actors/coordinator_machine.h"

#include <algorithm>

#include "protocol/limits.h"

namespace packcast {
namespace {

constexpr size_t kReportsKept = 1000;
constexpr size_t kSupersededKept = 1024;

}  // namespace

CoordinatorMachine::CoordinatorMachine(CoordinatorConfig config)
    : config_(std::move(config)), term_(config_.term) {}

CoordinatorEffects CoordinatorMachine::On(const CoordinatorEvent& event, Time now) {
  now_ = now;
  std::visit([this](const auto& e) { Handle(e); }, event);
  LookForBehind();
  while (reports_.size() > kReportsKept) reports_.pop_front();
  return std::exchange(effects_, {});
}

Status CoordinatorMachine::CheckInvariants() const {
  if (pending_.size() > 2) return Internal("S7: more than two pending syncs");
  if (!epoch_) return OkStatus();
  if (epoch_->key.term != term_) return Internal("S6: the epoch is of another term");
  for (const Participant& p : epoch_->participants) {
    if (p.decided && !p.staged) return Internal("S5: " + p.id.name + " was committed too early");
  }
  if (epoch_->decided()) {
    for (const Participant& p : epoch_->participants) {
      if (p.role == Role::kWorker && !p.lost && !p.excluded && !p.staged) {
        return Internal("S5: committed before " + p.id.name + " staged");
      }
    }
  }
  if (last_committed_ && epoch_->key.version() < *last_committed_) {
    return Internal("S2: an epoch older than the last committed version");
  }
  return OkStatus();
}

std::optional<Time> CoordinatorMachine::NextDeadline() const {
  std::optional<Time> next = stop_at_;
  const auto consider = [&next](Time at) { next = next ? std::min(*next, at) : at; };
  if (epoch_) consider(epoch_->deadline);
  if (look_again_at_) consider(*look_again_at_);
  for (const SyncWaiter& waiter : waiters_) consider(waiter.deadline);
  return next;
}

void CoordinatorMachine::SendToAll(const CoordinatorMessage& message) {
  for (const auto& [name, member] : membership_.all()) Send(member.id, message);
}

void CoordinatorMachine::Publish(std::string_view name, ValueMap details) {
  ValueMap event{{"event", std::string(name)}, {"model", config_.model}};
  for (auto& detail : details) event.push_back(std::move(detail));
  Emit(PublishEvent{std::move(event)});
}

void CoordinatorMachine::Handle(const FromMember& event) {
  if (const auto* join = std::get_if<JoinCluster>(&event.message)) {
    HandleJoin(event.from, *join);
    return;
  }
  if (membership_.Find(event.from) == nullptr) return;  // S6: expelled, or another life
  if (std::holds_alternative<LeaveCluster>(event.message)) {
    Handle(MemberLost{event.from, Cancelled("left the cluster")});
  } else if (const auto* call = std::get_if<SyncCall>(&event.message)) {
    HandleSyncCall(event.from, *call);
  } else if (const auto* cancel = std::get_if<SyncCancel>(&event.message)) {
    HandleSyncCancel(event.from, *cancel);
  } else if (const auto* part = std::get_if<ManifestPart>(&event.message)) {
    const Member& sender = *membership_.Find(event.from);
    if (sender.role == Role::kWorker) TakeRows(event.from, *part);
    if (sender.role != Role::kTrainer || sender.rank_in_unit != 0) return;  // only roots send rows
    if (Status status = manifests_.Add(*part); !status.ok()) {
      Publish("manifest.bad",
              {{"member", event.from.name}, {"error", WireText(status.ToString())}});
    }
  } else {
    HandleEpochMessage(event.from, event.message);
  }
}

// ---- members ------------------------------------------------------------------------------------

void CoordinatorMachine::HandleJoin(const MemberId& from, const JoinCluster& join) {
  if (join.model != config_.model) {
    Send(from,
         Expelled{join.model,
                  WireStatus::From(NotFound("this coordinator serves model \"" + config_.model +
                                            "\", not \"" + join.model + "\"")),
                  false});
    return;
  }
  if (std::find(superseded_.begin(), superseded_.end(), from) != superseded_.end()) {
    Supersede(from);  // a frozen process that came back after its name was started again
    return;
  }
  if (const Status status = CheckJoin(from, join); !status.ok()) {
    Send(from, Expelled{join.model, WireStatus::From(status), false});
    Publish("member.refused", {{"member", from.name}, {"error", status.ToString()}});
    // A member that may not join again ends; an earlier life of its name stays what it was.
    Handle(MemberLost{from, status});
    return;
  }
  if (const auto life = lives_.find(from.name); life != lives_.end() && life->second != from) {
    Supersede(life->second);
  }
  if (lives_.size() < 2 * limits::kMembers || lives_.contains(from.name)) lives_[from.name] = from;
  if (const Member* earlier = membership_.FindName(from.name); earlier != nullptr) {
    const MemberId old = earlier->id;
    Handle(MemberLost{
        old, old == from ? Unavailable("joined again") : PeerDied("superseded by a new start")});
  }
  const bool above = PromisedAbove(join);
  if (above && epoch_ && epoch_->catch_up && !epoch_->decided()) {
    DropCatchUp(Cancelled(from.name + " joins, which knows a later term"));
  }
  if (above && epoch_ && epoch_->phase != EpochPhase::kWaitReplicas) {
    std::erase_if(late_joins_, [&](const FromMember& j) { return j.from.name == from.name; });
    late_joins_.push_back({from, join});
    return;
  }
  if (above) RaiseTerm(join.promised.counter);
  membership_.Add(from, join);
  if (join.role == Role::kWorker) behind_.erase(join.unit);  // a new start is a new chance
  Send(from, Welcome{config_.model, term_});
  Publish("member.joined", {{"member", from.name},
                            {"role", std::string(RoleName(join.role))},
                            {"unit", join.unit},
                            {"version", ToString(join.serving)}});
  if (epoch_ && epoch_->phase == EpochPhase::kWaitReplicas) Advance();
  StartNextSync();
}

bool CoordinatorMachine::PromisedAbove(const JoinCluster& join) const {
  return join.promised.counter > term_.counter ||
         (join.promised.counter == term_.counter && join.promised != term_);
}

Status CoordinatorMachine::CheckJoin(const MemberId& from, const JoinCluster& join) const {
  if (stop_at_) return Cancelled("the cluster shuts down");
  if (PromisedAbove(join) && join.promised.counter >= limits::kTermCounter) {
    return InvalidArgument(from.name + " says that it promised term " +
                           std::to_string(join.promised.counter) + ", and no term may exceed " +
                           std::to_string(limits::kTermCounter));
  }
  if (PromisedAbove(join) && late_joins_.size() >= limits::kMembers) {
    return ResourceExhausted("too many members wait for the end of the epoch to join");
  }
  return membership_.CheckJoin(from, join);
}

// One process of a name: the one that was started last. The other must not join over and over.
void CoordinatorMachine::Supersede(const MemberId& old) {
  Send(old, Expelled{config_.model, WireStatus::From(Stale("superseded by a new start")), false});
  if (std::find(superseded_.begin(), superseded_.end(), old) != superseded_.end()) return;
  superseded_.push_back(old);
  if (superseded_.size() > kSupersededKept) superseded_.pop_front();
}

// A member promised a higher term to an earlier coordinator: ours must be above it. An epoch that
// waits for replicas is not known to anyone yet.
void CoordinatorMachine::RaiseTerm(uint64_t above) {
  term_.counter = above + 1;
  if (epoch_) epoch_->key.term = term_;
  SendToAll(Welcome{config_.model, term_});
}

void CoordinatorMachine::Handle(const MemberLost& event) {
  std::erase_if(late_joins_, [&](const FromMember& j) { return j.from == event.member; });
  if (membership_.Find(event.member) == nullptr) return;
  const Role role = membership_.Find(event.member)->role;
  if (epoch_) epoch_->barred.erase(membership_.Find(event.member)->unit);  // its next life may try
  membership_.Remove(event.member.name);
  // It may have given its ends up.
  std::erase_if(generations_, [&](const Generation& g) { return g.Has(event.member); });
  Publish("member.lost",
          {{"member", event.member.name}, {"cause", WireText(event.cause.ToString())}});
  if (role == Role::kTrainer) {
    DropPending(event.cause.WithContext("trainer " + event.member.name));
  }
  if (epoch_ && role == Role::kTrainer) LoseCaller(event.member, event.cause);
  if (epoch_) LoseParticipant(event.member, event.cause);
  if (role == Role::kTrainer) FailWaiters(event.cause.WithContext("the trainer is gone"));
  if (stop_at_ && membership_.all().empty()) Stop();
}

void CoordinatorMachine::Handle(const MemberBack& event) {
  if (membership_.Find(event.member) != nullptr) return;  // it has joined again by itself
  Send(event.member,
       Expelled{config_.model, WireStatus::From(Unavailable("was not reachable")), true});
}

void CoordinatorMachine::Handle(const Tick&) {
  if (epoch_ && now_ >= epoch_->deadline) OnPhaseDeadline();
  ExpireWaiters();
  if (stop_at_ && now_ >= *stop_at_) Stop();
}

// A decided epoch may still be under way: whoever waits for its end is answered before ours.
void CoordinatorMachine::Stop() {
  for (const SyncWaiter& waiter : std::exchange(waiters_, {})) {
    Emit(ReplyControl{waiter.token, Cancelled("the cluster shuts down"), {}});
  }
  Emit(StopCoordinator{});
}

void CoordinatorMachine::ExpireWaiters() {
  for (size_t k = 0; k < waiters_.size();) {
    if (now_ < waiters_[k].deadline) {
      ++k;
      continue;
    }
    Emit(ReplyControl{waiters_[k].token, DeadlineExceeded("no sync came in time"), {}});
    waiters_.erase(waiters_.begin() + static_cast<ptrdiff_t>(k));
  }
}

// A caller that is gone is not answered: its next life, or the same one after it joined again, may
// have called anew under the same label.
void CoordinatorMachine::LoseCaller(const MemberId& member, const Status& cause) {
  if (std::erase(epoch_->callers, member) == 0) return;
  if (epoch_->phase == EpochPhase::kWaitReplicas) EndEpoch(cause.WithContext(member.name));
}

// Scripts that wait for a sync which no trainer will call any more.
void CoordinatorMachine::FailWaiters(const Status& cause) {
  std::erase_if(waiters_, [&](const SyncWaiter& waiter) {
    const auto same = [&](const PendingSync& sync) { return sync.label == waiter.label; };
    if (Runs(waiter.label) || std::any_of(pending_.begin(), pending_.end(), same)) return false;
    Emit(ReplyControl{waiter.token, cause, {}});
    return true;
  });
}

// ---- sync calls ---------------------------------------------------------------------------------

void CoordinatorMachine::HandleSyncCall(const MemberId& from, const SyncCall& call) {
  PendingSync alone{call.label, call.manifest_digest, {from}, {}};
  if (call.held) alone.held[from] = *call.held;
  if (membership_.Find(from)->role != Role::kTrainer) {
    AnswerSync(alone, PermissionDenied(from.name + " is not a trainer"), {});
    return;
  }
  if (stop_at_) {
    AnswerSync(alone, Cancelled("the cluster shuts down"), {});
    return;
  }
  if (call.kind != SyncKind::kFull) {
    AnswerSync(alone, Unimplemented("only full syncs are known here"), {});
    return;
  }
  // The rank's next call belongs to the oldest pending sync that it has not joined.
  for (size_t k = 0; k < pending_.size();) {
    PendingSync& sync = pending_[k];
    if (std::find(sync.callers.begin(), sync.callers.end(), from) != sync.callers.end()) {
      ++k;
      continue;
    }
    if (sync.label != call.label || sync.manifest_digest != call.manifest_digest) {
      if (!RefuseOther(k, alone)) return;
      continue;  // at k is the next one now
    }
    sync.callers.push_back(from);
    sync.held.merge(HeldRows(alone.held));
    StartNextSync();
    return;
  }
  if (pending_.size() >= (epoch_ && !epoch_->catch_up ? 1u : 2u)) {
    if (!call.supersede) {
      AnswerSync(alone, Busy("one sync runs and one is queued"), {});
      return;
    }
    const PendingSync older = pending_.back();
    pending_.pop_back();
    AnswerSync(older, Cancelled("superseded by sync(" + std::to_string(call.label) + ")"), {});
  }
  pending_.push_back(alone);
  StartNextSync();
}

// Ranks disagree: both syncs end. But where a script waits for one of them only, that one stands:
// the other rank was asked late, as it was away, and calls what is over. Were both to end, it would
// for ever be one behind what scripts ask for. Whether `alone` stands.
bool CoordinatorMachine::RefuseOther(size_t index, const PendingSync& alone) {
  const PendingSync sync = pending_[index];
  const std::string what = sync.label != alone.label ? "label" : "manifest";
  const auto call = [](const PendingSync& s) {
    return s.callers.front().name + " calls sync(" + std::to_string(s.label) + ", " +
           ToHex(s.manifest_digest) + ")";
  };
  const Status status = InvalidArgument("trainer ranks disagree on the " + what + ": " +
                                        call(sync) + ", " + call(alone));
  const auto is_awaited = [this](uint64_t label) {
    return std::any_of(waiters_.begin(), waiters_.end(),
                       [&](const SyncWaiter& waiter) { return waiter.label == label; });
  };
  const bool sync_awaited = is_awaited(sync.label);
  const bool alone_awaited = is_awaited(alone.label);
  const bool alone_stands = alone_awaited && !sync_awaited;
  if (alone_awaited || !sync_awaited) {
    pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(index));
    AnswerSync(sync, status, {});
  }
  if (!alone_stands) AnswerSync(alone, status, {});
  return alone_stands;
}

void CoordinatorMachine::HandleSyncCancel(const MemberId& from, const SyncCancel& cancel) {
  if (membership_.Find(from)->role != Role::kTrainer) return;  // no business of a worker
  const uint64_t label = cancel.label;
  const Status told = cancel.reason ? cancel.reason->ToStatus() : OkStatus();
  const Status why = told.ok() || told.code() == StatusCode::kCancelled
                         ? Cancelled("cancelled by " + from.name)
                         : told.WithContext(from.name);
  for (size_t k = 0; k < pending_.size(); ++k) {
    if (pending_[k].label != label) continue;
    const PendingSync sync = pending_[k];
    pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(k));
    AnswerSync(sync, why, {});
    return;
  }
  if (Runs(label)) {
    // Who gave up waiting is not to blame; who says that something broke at home is.
    if (!epoch_->decided()) BeginAbort(why, IsWire(why) ? "" : from.name, true);
    return;
  }
  AnswerSync(PendingSync{label, {}, {}, {}}, why, {});  // scripts that wait for it
}

void CoordinatorMachine::AnswerSync(const PendingSync& sync, const Status& status,
                                    const Value& report) {
  for (const MemberId& caller : sync.callers) {
    if (membership_.Find(caller) == nullptr) continue;
    Send(caller, SyncDone{config_.model, sync.label, WireStatus::From(status), report});
  }
  std::erase_if(waiters_, [&](const SyncWaiter& waiter) {
    if (waiter.label != sync.label) return false;
    Emit(ReplyControl{waiter.token, status, report});
    return true;
  });
}

// A trainer rank went away. What it had called ends, and what its siblings had called and it had
// not: its next life knows nothing of that, and they would wait for it.
void CoordinatorMachine::DropPending(const Status& why) {
  for (const PendingSync& sync : std::exchange(pending_, {})) {
    AnswerSync(sync, Aborted(why.ToString()), {});
  }
}

void CoordinatorMachine::StartNextSync() {
  while (!stop_at_ && !pending_.empty()) {
    if (epoch_ && (!epoch_->catch_up || epoch_->decided())) return;
    const PendingSync sync = pending_.front();
    const Member* caller = membership_.Find(sync.callers.front());
    if (caller == nullptr || sync.callers.size() < caller->unit_size) return;  // ranks to come
    if (epoch_) DropCatchUp(Cancelled("sync(" + std::to_string(sync.label) + ") begins"));
    pending_.pop_front();
    if (manifests_.Find(sync.manifest_digest) == nullptr) {
      AnswerSync(sync,
                 FailedPrecondition("the rows of manifest " + ToHex(sync.manifest_digest) +
                                    " did not come before the sync"),
                 {});
      continue;
    }
    BeginEpoch(sync);
  }
}

}  // namespace packcast
