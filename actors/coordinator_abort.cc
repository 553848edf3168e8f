// When something fails before the decision: give the attempt up everywhere, then try again with
// the replicas that are left, or end the epoch. After the decision: expel and go on.
#include <algorithm>

#include "actors/coordinator_machine.h"

namespace packcast {
namespace {

// Statuses that say "a peer or the wire", not "me".
bool IsWire(const Status& status) {
  switch (status.code()) {
    case StatusCode::kUnavailable:
    case StatusCode::kPeerDied:
    case StatusCode::kDeadlineExceeded:
    case StatusCode::kAborted:
    case StatusCode::kCancelled:
    case StatusCode::kStale: return true;
    case StatusCode::kOk:
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kAlreadyExists:
    case StatusCode::kFailedPrecondition:
    case StatusCode::kResourceExhausted:
    case StatusCode::kDataLoss:
    case StatusCode::kUnimplemented:
    case StatusCode::kPermissionDenied:
    case StatusCode::kInternal:
    case StatusCode::kBusy: return false;
  }
  return false;
}

// A failure that says "ok" is one all the same: it must not pass for a success.
Status ReasonOf(const WireStatus& told) {
  const Status status = told.ToStatus();
  return status.ok() ? Internal("no reason was given") : status;
}

}  // namespace

void CoordinatorMachine::BeginAbort(const Status& reason, const std::string& culprit, bool final) {
  Epoch& epoch = *epoch_;
  if (epoch.decided()) return;  // S10
  if (epoch.phase == EpochPhase::kAborting) {
    epoch.final = epoch.final || final;
    return;
  }
  epoch.failure = reason;
  epoch.culprit = culprit;
  epoch.failure_is_wire = IsWire(reason);
  epoch.final = final;
  Publish("epoch.abort", {{"epoch", epoch.key.epoch.value},
                          {"attempt", epoch.key.attempt.value},
                          {"reason", reason.ToString()},
                          {"culprit", culprit}});
  EnterPhase(EpochPhase::kAborting, config_.deadlines.abort);
  RetireGeneration();  // S9: any abort retires it
  for (Participant& p : epoch.participants) {
    p.halted = false;
    p.entered_group.reset();
    // Who was broken already has ignored the contract: send it again.
    if (Member* member = membership_.Find(p.id)) member->contract_held = {};
    if (!p.lost) Send(p.id, AbortAttempt{epoch.key, WireStatus::From(reason), culprit});
  }
  Advance();
}

// Messages of an attempt that does not go well.
void CoordinatorMachine::OnTrouble(Participant* participant, const MemberMessage& message) {
  Epoch& epoch = *epoch_;
  Participant& p = *participant;
  if (const auto* refused = std::get_if<Refused>(&message)) {
    if (epoch.phase == EpochPhase::kAborting) return;
    const std::string row = refused->row.empty() ? "" : " (tensor \"" + refused->row + "\")";
    BeginAbort(ReasonOf(refused->status).WithContext(p.id.name + " refused" + row), p.id.name,
               true);
  } else if (const auto* failed = std::get_if<Failed>(&message)) {
    OnFailed(&p, *failed);
  } else if (epoch.phase != EpochPhase::kAborting) {
    return;  // an answer to an abort that is over
  } else if (const auto* halted = std::get_if<Halted>(&message)) {
    p.halted = true;
    p.entered_group = halted->entered_group;
    DrainWhenHalted();
  } else if (const auto* aborted = std::get_if<AttemptAborted>(&message)) {
    membership_.Find(p.id)->dirty = aborted->dirty;
    if (aborted->outcome != AbortOutcome::kClean) {
      ExpelSilent(p, Aborted(aborted->outcome == AbortOutcome::kWedged
                                 ? "its abort did not finish; restart the process"
                                 : "it lost its device; restart the process"));
      return;
    }
    p.answered = true;
    DrainWhenHalted();
    Advance();
  }
}

void CoordinatorMachine::OnFailed(Participant* participant, const Failed& failed) {
  Epoch& epoch = *epoch_;
  if (epoch.phase == EpochPhase::kAborting) return;
  if (epoch.decided()) {
    // A trainer's trouble after the workers had all bytes. A worker answers with Installed.
    if (participant->role != Role::kTrainer) return;
    participant->answered = true;
    Advance();
    return;
  }
  const Status status = ReasonOf(failed.status);
  const Status reason = status.WithContext(participant->id.name + " in " + failed.phase);
  const std::string unit = participant->unit;
  if (participant->role == Role::kTrainer) {
    // A trainer's own trouble ends the epoch; trouble with a peer is tried again without it.
    BeginAbort(reason, failed.culprit.empty() ? participant->id.name : failed.culprit,
               !IsWire(status) && failed.phase != "prepare");
    return;
  }
  auto& once = epoch.failed_once;
  const bool again = std::find(once.begin(), once.end(), unit) != once.end();
  const bool own_fault = !IsWire(status) && failed.phase != "prepare";
  once.push_back(unit);
  const std::string culprit = own_fault || again ? participant->id.name : failed.culprit;
  if (own_fault || again) ExpelUnit(unit, participant->id.name, reason);
  BeginAbort(reason, culprit, false);
}

void CoordinatorMachine::ExpelUnit(const std::string& unit, const std::string& culprit,
                                   const Status& reason) {
  Epoch& epoch = *epoch_;
  for (Participant& p : epoch.participants) {
    if (p.role == Role::kWorker && p.unit == unit) p.excluded = true;
  }
  // It can be listed already: the epoch began anew and it was in again.
  for (const ExpelledUnit& expelled : epoch.expelled) {
    if (expelled.unit == unit) return;
  }
  epoch.expelled.push_back({unit, culprit, reason.ToString()});
  Publish("replica.expelled",
          {{"replica", unit}, {"culprit", culprit}, {"reason", reason.ToString()}});
}

// A participant that does not answer: out until it joins again, as if its process were gone.
void CoordinatorMachine::ExpelSilent(const Participant& participant, const Status& reason) {
  const MemberId id = participant.id;
  Send(id, Expelled{config_.model, WireStatus::From(reason), true});
  Handle(MemberLost{id, reason});
}

// `member` will say nothing more.
void CoordinatorMachine::LoseParticipant(const MemberId& member, const Status& cause) {
  Epoch& epoch = *epoch_;
  Participant* lost = epoch.Find(member);
  if (lost == nullptr || lost->lost) return;
  lost->lost = lost->answered = true;
  const Status reason = cause.WithContext(member.name);
  if (lost->role == Role::kTrainer) {
    if (epoch.phase == EpochPhase::kAborting) {
      epoch.final = true;
      if (epoch.failure_is_wire) {
        epoch.failure = reason;
        epoch.culprit = member.name;
        epoch.failure_is_wire = false;
      }
      DrainWhenHalted();
      Advance();
    } else if (epoch.decided()) {
      Advance();
    } else {
      BeginAbort(reason, member.name, true);
    }
    return;
  }
  ExpelUnit(lost->unit, member.name, reason);
  if (epoch.phase == EpochPhase::kAborting && epoch.failure_is_wire) {
    epoch.failure = reason;
    epoch.culprit = member.name;
    epoch.failure_is_wire = false;
  }
  if (epoch.decided() && epoch.culprit.empty()) {
    epoch.failure = reason;
    epoch.culprit = member.name;
  }
  if (epoch.phase == EpochPhase::kAborting || epoch.decided()) {
    Advance();
  } else {
    BeginAbort(reason, member.name, false);
  }
}

// Once every trainer rank that pulls has stopped, all go on to the furthest group any entered.
void CoordinatorMachine::DrainWhenHalted() {
  Epoch& epoch = *epoch_;
  std::optional<uint64_t> furthest;
  for (const Participant& p : epoch.participants) {
    if (p.role != Role::kTrainer || p.lost) continue;
    if (!p.halted && !p.answered) return;
    if (p.entered_group && (!furthest || *furthest < *p.entered_group)) furthest = p.entered_group;
  }
  for (Participant& p : epoch.participants) {
    if (p.role != Role::kTrainer || p.lost || !p.halted) continue;
    p.halted = false;
    Send(p.id, Drain{epoch.key, furthest});
  }
}

void CoordinatorMachine::AfterAbort() {
  Epoch& epoch = *epoch_;
  if (epoch.final) {
    EndEpoch(epoch.failure);
    return;
  }
  std::erase_if(epoch.participants, [](const Participant& p) { return p.lost || p.excluded; });
  if (epoch.key.attempt.value >= config_.max_attempts) {
    EndEpoch(Aborted("gave up after " + std::to_string(config_.max_attempts) +
                     " attempts; the last: " + epoch.failure.ToString()));
  } else if (epoch.LiveReplicas() < config_.min_replicas || epoch.LiveReplicas() == 0) {
    EndEpoch(Aborted(std::to_string(epoch.LiveReplicas()) + " of at least " +
                     std::to_string(config_.min_replicas) +
                     " replicas are left: " + epoch.failure.ToString()));
  } else {
    NextAttempt();
  }
}

void CoordinatorMachine::NextAttempt() {
  Epoch& epoch = *epoch_;
  // A participant that has not offered yet in this epoch must be asked first.
  const bool offered = epoch.contract.has_value();
  ++epoch.key.attempt.value;
  for (Participant& p : epoch.participants) {
    p.staged = false;
    p.plan_digest = p.content_digest = {};
    p.completed = 0;
  }
  Publish("epoch.attempt",
          {{"epoch", epoch.key.epoch.value}, {"attempt", epoch.key.attempt.value}});
  if (offered) {
    DecideContract();
    return;
  }
  // Nobody has prepared; the epoch starts over as a new version for those who are here.
  const PendingSync sync{epoch.label, epoch.manifest->digest(), epoch.callers};
  const auto expelled = epoch.expelled;
  const Status failure = epoch.failure;
  const std::string culprit = epoch.culprit;
  epoch_.reset();
  BeginEpoch(sync);
  if (epoch_) {
    epoch_->expelled = expelled;
    epoch_->failure = failure;
    epoch_->culprit = culprit;
  }
}

void CoordinatorMachine::EndEpoch(Status status) {
  Epoch& epoch = *epoch_;
  epoch.phase_seconds.push_back(
      {std::string(EpochPhaseName(epoch.phase)), ToSeconds(now_ - epoch.phase_began)});
  const Value report = EpochReport(epoch, status, now_);
  const PendingSync sync{epoch.label, epoch.manifest->digest(), epoch.callers};
  reports_.push_back(report);
  Publish("epoch.end", {{"report", report}});
  epoch_.reset();
  AnswerSync(sync, status, report);
  const std::vector<FromMember> joins = std::exchange(late_joins_, {});
  for (const FromMember& join : joins) Handle(join);
  StartNextSync();
}

}  // namespace packcast
