// The part of CoordinatorMachine for the commit policy "each": a replica that holds all bytes is
// decided at once, alone. What is decided is not aborted (S10); the others go on, try again without
// it, or are left behind.
#include <algorithm>
#include <set>
#include <string>

#include "actors/coordinator_machine.h"

namespace packcast {

// S5: every rank of the replica has staged.
void CoordinatorMachine::DecideReplicas() {
  Epoch& epoch = *epoch_;
  if (config_.commit != CommitPolicy::kEach || epoch.catch_up) return;
  std::set<std::string> units;
  for (const Participant& p : epoch.participants) {
    if (p.role == Role::kWorker && !p.out()) units.insert(p.unit);
  }
  for (const std::string& unit : units) {
    if (MayDecide(unit)) DecideReplica(unit);
  }
}

// One that holds other bytes than those that are decided waits for the end, where it is judged.
bool CoordinatorMachine::MayDecide(const std::string& unit) const {
  const Epoch& epoch = *epoch_;
  std::optional<Digest> content = epoch.SentDigest();
  for (const Participant& p : epoch.participants) {
    if (p.decided) content = p.content_digest;
  }
  for (const Participant& p : epoch.participants) {
    if (p.role != Role::kWorker || p.unit != unit) continue;
    if (!p.staged) return false;
    if (!content) content = p.content_digest;
    if (p.content_digest != *content) return false;
  }
  return true;
}

void CoordinatorMachine::DecideReplica(const std::string& unit) {
  Epoch& epoch = *epoch_;
  last_committed_ = epoch.key.version();
  Publish("replica.committed", {{"replica", unit},
                                {"epoch", epoch.key.epoch.value},
                                {"version", ToString(epoch.key.version())}});
  for (Participant& p : epoch.participants) {
    if (p.role != Role::kWorker || p.unit != unit) continue;
    p.decided = epoch.key;
    Send(p.id, Commit{epoch.key});
  }
}

// What a rank says whose replica was decided before the others.
void CoordinatorMachine::OnDecided(Participant* participant, const MemberMessage& message) {
  const auto* installed = std::get_if<Installed>(&message);
  if (installed == nullptr || participant->ended) return;
  participant->ended = true;
  OnInstalled(participant, *installed);
  if (epoch_->phase != EpochPhase::kCommitting) return;
  participant->answered = true;
  Advance();
}

// An attempt was given up when some replicas were decided: the others try again without them, or
// the epoch ends as committed, and says who is missing.
void CoordinatorMachine::AfterPartedAbort() {
  Epoch& epoch = *epoch_;
  std::set<std::string> others;
  for (const Participant& p : epoch.participants) {
    if (p.role == Role::kWorker && !p.out()) others.insert(p.unit);
  }
  const bool is_last = epoch.final || epoch.key.attempt.value >= config_.max_attempts;
  // Without a contract the next attempt would have a version that those that are decided have not.
  if (!is_last && epoch.contract && !others.empty()) {
    std::erase_if(epoch.participants, [](const Participant& p) { return p.lost || p.excluded; });
    NextAttempt();
    return;
  }
  for (const std::string& unit : others) ExpelUnit(unit, epoch.culprit, epoch.failure);
  EnterPhase(EpochPhase::kCommitting, config_.deadlines.install);
  for (Participant& p : epoch.participants) {
    if (!p.decided) p.answered = true;
  }
  Advance();
}

}  // namespace packcast
