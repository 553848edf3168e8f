// How a member gives an attempt up: by its own failure, when told to, or left alone.
#include <string>
#include <utility>

#include "actors/member_machine.h"

namespace packcast {

// The coordinator counts us out of what it had under way with us.
void MemberMachine::Abandon() {
  may_retry_ = false;
  next_.reset();
  contract_digest_ = {};
  switch (phase_) {
    case MemberPhase::kIdle:
    case MemberPhase::kInstalling:  // decided: goes on
    case MemberPhase::kHalting:     // goes on to abort when halted
      break;
    case MemberPhase::kHalted:
      phase_ = MemberPhase::kAborting;
      Emit(AbortLocal{key_, GroupWithoutWord()});
      break;
    case MemberPhase::kAborting: report_abort_ = false; break;
    case MemberPhase::kProposed:
    case MemberPhase::kPreparing:
    case MemberPhase::kPrepared:
    case MemberPhase::kJoining:
    case MemberPhase::kQuiescing:
    case MemberPhase::kStreaming:
    case MemberPhase::kStreamed:
    case MemberPhase::kStaged:
    case MemberPhase::kBroken: BeginAbort(false); break;
  }
}

void MemberMachine::Fail(std::string_view phase, const Status& status, const std::string& culprit) {
  phase_ = MemberPhase::kBroken;
  Send(Failed{key_, std::string(phase), WireStatus::From(status), culprit});
}

// This epoch cannot work here.
void MemberMachine::Refuse(const Status& status, const std::string& row) {
  phase_ = MemberPhase::kBroken;
  Send(Refused{key_, WireStatus::From(status), row, "", ""});
}

void MemberMachine::Handle(const AbortAttempt& abort) {
  if (abort.key.model != config_.model || abort.key.term != promised_) return;
  if (!Current(abort.key)) {
    if (key_ < abort.key && phase_ == MemberPhase::kIdle) key_ = abort.key;
    const bool waiting = next_ && next_->key == abort.key;
    if (waiting) next_.reset();
    // Nothing of it is here (any more): an older attempt has ended before a newer one could start.
    if (phase_ == MemberPhase::kIdle || abort.key < key_ || waiting) {
      Send(AttemptAborted{abort.key, AbortOutcome::kClean, dirty_});
    }
    return;
  }
  if (phase_ == MemberPhase::kInstalling || committed_) return;  // S10: it was decided
  if (phase_ == MemberPhase::kAborting || phase_ == MemberPhase::kHalting ||
      phase_ == MemberPhase::kHalted) {
    report_abort_ = true;
    return;
  }
  BeginAbort(true);
}

void MemberMachine::BeginAbort(bool report) {
  report_abort_ = report;
  if (phase_ == MemberPhase::kProposed) {
    FinishAbort(AbortDone{key_, AbortOutcome::kClean});
    return;
  }
  // A lazy source may be inside a collective of its own: the trainer's ranks must stop at the same
  // group, which only the coordinator can name.
  if (config_.role == Role::kTrainer && started_ && connected_ && report) {
    phase_ = MemberPhase::kHalting;
    Emit(HaltSource{key_});
    return;
  }
  phase_ = MemberPhase::kAborting;
  Emit(AbortLocal{key_, GroupWithoutWord()});
}

// Where the source stops when the coordinator does not say it. Ranks that know nothing of each
// other have only the end in common.
std::optional<uint64_t> MemberMachine::GroupWithoutWord() const {
  const bool has_siblings = config_.role == Role::kTrainer && config_.unit_size > 1;
  return has_siblings && started_ ? std::optional(kAllGroups) : std::nullopt;
}

void MemberMachine::Handle(const HaltDone& done) {
  if (phase_ != MemberPhase::kHalting || done.key != key_) return;
  if (!connected_ || !joined_ || next_) {  // nobody will name a group
    phase_ = MemberPhase::kAborting;
    Emit(AbortLocal{key_, GroupWithoutWord()});
    return;
  }
  phase_ = MemberPhase::kHalted;
  Send(Halted{key_, done.entered_group});
}

void MemberMachine::Handle(const Drain& drain) {
  if (phase_ != MemberPhase::kHalted || drain.key != key_) return;
  phase_ = MemberPhase::kAborting;
  Emit(AbortLocal{key_, drain.group});
}

void MemberMachine::Handle(const AbortDone& done) {
  if (phase_ != MemberPhase::kAborting || done.key != key_) return;
  generations_.clear();  // AbortLocal retired them
  FinishAbort(done);
}

void MemberMachine::FinishAbort(const AbortDone& done) {
  phase_ = MemberPhase::kIdle;
  // In place, once the first byte may be written, only a good epoch brings it back.
  if (!dirty_) Resume(false);
  if (committed_ && sends_) Emit(SourceFree{label_});
  if (std::exchange(report_abort_, false)) Send(AttemptAborted{key_, done.outcome, dirty_});
  // S9: what could not be stopped may still write, so this life takes part in nothing more.
  if (done.outcome != AbortOutcome::kClean) {
    Stop(Internal("an attempt could not be given up here; end this process"));
  }
}

}  // namespace packcast
