// When something fails before the decision: give the attempt up everywhere, then try again with
// the replicas that are left, or end the epoch. After the decision: expel and go on.
#include <algorithm>

#include "actors/coordinator_machine.h"

namespace packcast {
namespace {

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
    if (!final || epoch.final) return;
    epoch.final = true;
    epoch.Blame(reason, culprit);  // it ends the epoch; the first one would have been tried again
    return;
  }
  epoch.Blame(reason, culprit);
  epoch.final = final;
  GiveUp();
}

// Ends the present attempt everywhere, for the reason that the epoch's record has.
void CoordinatorMachine::GiveUp() {
  Epoch& epoch = *epoch_;
  if (!epoch.catch_up) {
    Publish("epoch.abort", {{"epoch", epoch.key.epoch.value},
                            {"attempt", epoch.key.attempt.value},
                            {"reason", epoch.failure.ToString()},
                            {"culprit", epoch.culprit}});
  }
  // Not all may have taken the proposal in, and all must before there can be a second attempt.
  if (epoch.phase == EpochPhase::kOffers) epoch.contract.reset();
  epoch.ahead = false;
  EnterPhase(EpochPhase::kAborting, config_.deadlines.abort);
  ForgetGenerations();  // S9: any abort retires them
  const AbortAttempt abort{epoch.key, WireStatus::From(epoch.failure), epoch.culprit};
  for (Participant& p : epoch.participants) {
    p.halted = false;
    p.entered_group.reset();
    // Who was broken already has ignored the contract: send it again.
    if (Member* member = membership_.Find(p.id)) member->contract_held = {};
    if (!p.lost && !p.decided) Send(p.id, abort);  // S10
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
    if (p.role != Role::kTrainer) return;
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
  const Participant& p = *participant;
  const bool trainer = p.role == Role::kTrainer;
  if (epoch.decided()) {
    // A trainer's trouble after the workers had all bytes. A worker answers with Installed.
    if (!trainer) return;
    participant->answered = true;
    Advance();
    return;
  }
  const Status status = ReasonOf(failed.status);
  const Status reason = status.WithContext(p.id.name + " in " + failed.phase);
  const bool own_fault = !IsWire(status) && failed.phase != "prepare";
  const bool aborting = epoch.phase == EpochPhase::kAborting;
  if (aborting && !epoch.hearsay) return;
  if (!own_fault) {
    // Of a root's abort the others may tell before it does, and only it knows whom it waited for.
    if (aborting && !(trainer && epoch.culprit.empty())) return;
    OnHearsay(p, reason, failed.culprit);
    if (aborting) return;
    // A transport that does not come up is not offered again: the next attempt asks anew.
    if (failed.phase == "rendezvous") epoch.contract.reset();
    GiveUp();
    return;
  }
  if (!trainer) {
    ExpelUnit(p.unit, p.id.name, reason);
    epoch.barred.insert(p.unit);
  }
  if (aborting) {
    epoch.Blame(reason, p.id.name);
    epoch.final = epoch.final || trainer;
  } else {
    BeginAbort(reason, p.id.name, trainer);  // a trainer's own trouble ends the epoch
  }
}

// A rank's word that something is wrong with another: tried again. The first counts: during an
// abort peers go because of it. The root sees everybody, a worker only the root, which may have
// gone because of somebody else: so a worker that accuses another blames nobody for good, and one
// that accuses nobody is a suspect itself.
void CoordinatorMachine::OnHearsay(const Participant& from, const Status& reason,
                                   const std::string& culprit) {
  Epoch& epoch = *epoch_;
  const bool trainer = from.role == Role::kTrainer;
  const Participant* accused = culprit == from.id.name ? nullptr : epoch.FindName(culprit);
  const Participant* suspect = trainer ? accused : accused == nullptr ? &from : nullptr;
  epoch.Blame(reason, accused == nullptr ? "" : accused->id.name);
  epoch.hearsay = true;
  if (suspect != nullptr && suspect->role == Role::kWorker) epoch.suspect = suspect->id;
}

// The attempt is over and nobody was lost whose end explains it. Once may be the wire.
void CoordinatorMachine::JudgeSuspect() {
  Epoch& epoch = *epoch_;
  if (!epoch.suspect) return;
  const Participant suspect = *epoch.Find(*epoch.suspect);
  auto& once = epoch.failed_once;
  if (std::find(once.begin(), once.end(), suspect.unit) == once.end()) {
    once.push_back(suspect.unit);
    return;
  }
  epoch.culprit = suspect.id.name;
  ExpelUnit(suspect.unit, suspect.id.name, epoch.failure);
  epoch.barred.insert(suspect.unit);
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
  const std::string why = WireText(reason.ToString());
  epoch.expelled.push_back({unit, culprit, why});
  if (epoch.catch_up) return;  // put off, and its report says so
  Publish("replica.expelled", {{"replica", unit}, {"culprit", culprit}, {"reason", why}});
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
  lost->astray =
      cause.code() == StatusCode::kUnavailable || cause.code() == StatusCode::kDeadlineExceeded;
  const Status reason = cause.WithContext(member.name);
  const bool trainer = lost->role == Role::kTrainer;
  if (!trainer) ExpelUnit(lost->unit, member.name, reason);
  if (epoch.decided() || lost->decided) {
    lost->ended = true;
    if (!trainer) BlameLate(reason, member.name);
    Advance();
  } else if (epoch.phase == EpochPhase::kAborting) {
    if (epoch.hearsay) epoch.Blame(reason, member.name);
    if (trainer) {
      BeginAbort(reason, member.name, true);
      DrainWhenHalted();
    }
    Advance();
  } else {
    BeginAbort(reason, member.name, trainer);
  }
}

// A replica that was lost after the decision: the epoch is committed, and says who is missing.
void CoordinatorMachine::BlameLate(const Status& reason, const std::string& culprit) {
  if (epoch_->culprit.empty()) epoch_->Blame(reason, culprit);
}

// Once every trainer rank that pulls has stopped, all go on to the furthest group any entered; to
// the end if one of them is out of reach, for that is where it goes.
void CoordinatorMachine::DrainWhenHalted() {
  Epoch& epoch = *epoch_;
  std::optional<uint64_t> furthest;
  for (const Participant& p : epoch.participants) {
    if (p.role != Role::kTrainer) continue;
    if (p.astray) furthest = kAllGroups;
    if (p.lost) continue;
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
  if (!epoch.final && !epoch.catch_up) JudgeSuspect();
  if (epoch.parted()) {
    AfterPartedAbort();
    return;
  }
  if (epoch.final || epoch.catch_up) {  // who is left catches up in another one
    EndEpoch(epoch.failure);
    return;
  }
  std::erase_if(epoch.participants, [](const Participant& p) { return p.lost || p.excluded; });
  if (epoch.key.attempt.value >= config_.max_attempts) {
    EndEpoch(Aborted("gave up after " + std::to_string(config_.max_attempts) +
                     " attempts; the last: " + epoch.failure.ToString()));
  } else if (epoch.LiveReplicas() < config_.min_replicas || epoch.LiveReplicas() == 0) {
    if (config_.below_min == BelowMin::kWait) {
      epoch.contract.reset();  // of replicas that are not there
      epoch.barred.clear();    // the same ones will have to do
      NextAttempt();
      return;
    }
    EndEpoch(Aborted(std::to_string(epoch.LiveReplicas()) + " of at least " +
                     std::to_string(config_.min_replicas) +
                     " replicas are left: " + epoch.failure.ToString()));
  } else {
    NextAttempt();
  }
}

void CoordinatorMachine::NextAttempt() {
  Epoch& epoch = *epoch_;
  ++epoch.key.attempt.value;
  // Without a contract some have not offered (anew) yet and must be asked first, and others would
  // ignore a second question about the same version. The count of attempts goes on: it is bounded.
  const bool offered = epoch.contract.has_value();
  if (!offered) {
    epoch.key.epoch = EpochId(++last_epoch_);
    epoch.participants.clear();
    epoch.rows_sent = false;
  }
  for (Participant& p : epoch.participants) {
    if (!p.decided) p = p.Anew();
  }
  epoch.hearsay = false;
  epoch.suspect.reset();
  Publish("epoch.attempt", {{"epoch", epoch.key.epoch.value},
                            {"version", ToString(epoch.key.version())},
                            {"attempt", epoch.key.attempt.value}});
  if (offered) {
    DecideContract();
    return;
  }
  EnterPhase(EpochPhase::kWaitReplicas, config_.deadlines.wait_replicas);
  Advance();
}

void CoordinatorMachine::EndEpoch(Status status) {
  Epoch& epoch = *epoch_;
  epoch.phase_seconds.push_back(
      {std::string(EpochPhaseName(epoch.phase)), ToSeconds(now_ - epoch.phase_began)});
  if (epoch.catch_up) {
    EndCatchUp(status);
  } else {
    EndSync(status);
  }
  const std::vector<FromMember> joins = std::exchange(late_joins_, {});
  for (const FromMember& join : joins) Handle(join);
  StartNextSync();
}

void CoordinatorMachine::EndSync(const Status& status) {
  const Epoch& epoch = *epoch_;
  const Value report = EpochReport(epoch, status, now_);
  const PendingSync sync{epoch.label, epoch.manifest->digest(), epoch.callers, {}};
  reports_.push_back(report);
  Publish("epoch.end", {{"report", report}});
  epoch_.reset();
  AnswerSync(sync, status, report);
}

}  // namespace packcast
