// Bugs of coordinators, put in on purpose.
#include <algorithm>

#include "tests/sim/coordinator_shell.h"

namespace packcast::sim {

// Whether it takes no notice of `event`.
bool CoordinatorShell::Mutated(const CoordinatorEvent& event) {
  const Mutation mutation = world_->mutation();
  const bool tick = std::holds_alternative<Tick>(event);
  if (mutation == Mutation::kDeadlineLost && tick) return machine_.epoch().has_value();
  if (mutation == Mutation::kBackAfterDecision) {
    if (const auto* lost = std::get_if<MemberLost>(&event)) TakeBack(*lost);
  }
  return mutation == Mutation::kShutdownForgotten && stopping_since_ &&
         (tick || std::holds_alternative<MemberLost>(event));
}

// Whether `message` is not sent.
bool CoordinatorShell::Forgets(CoordinatorMessage* message) {
  if (world_->mutation() == Mutation::kExpelledForgotten) {
    return std::holds_alternative<Expelled>(*message);
  }
  auto* rendezvous = std::get_if<RendezvousBlob>(message);
  if (rendezvous != nullptr && world_->mutation() == Mutation::kGenerationReused) {
    for (FlowRendezvous& flow : rendezvous->flows) {
      if (first_blob_.empty()) first_blob_ = flow.blob;
      flow.blob = first_blob_;
    }
  }
  return false;
}

// The others are told that it is given up.
void CoordinatorShell::TakeBack(const MemberLost& lost) {
  const auto& epoch = machine_.epoch();
  if (!epoch || !epoch->decided()) return;
  const EpochKey key = epoch->key;
  for (const Participant& p : epoch->participants) {
    if (p.role != Role::kWorker || p.lost || p.id == lost.member) continue;
    Do(SendToMember{p.id, std::make_shared<const CoordinatorMessage>(
                              AbortAttempt{key, WireStatus::From(lost.cause), lost.member.name})});
  }
}

void CoordinatorShell::PretendLastStaged(const EpochKey& key, const Staged& staged) {
  const auto& epoch = machine_.epoch();
  if (!epoch || epoch->key != key || epoch->phase != EpochPhase::kStreaming) return;
  std::vector<MemberId> missing;
  for (const Participant* p : epoch->Waiting()) {
    if (p->role == Role::kWorker) missing.push_back(p->id);
  }
  if (missing.size() == 1) Feed(FromMember{missing.front(), staged});
}

void CoordinatorShell::Mutate(const CoordinatorEvent& event) {
  const auto* from = std::get_if<FromMember>(&event);
  const auto* staged = from == nullptr ? nullptr : std::get_if<Staged>(&from->message);
  if (world_->mutation() == Mutation::kCommitOneStagedEarly && staged != nullptr) {
    const Staged copy = *staged;
    PretendLastStaged(copy.key, copy);
  }
  const bool early = world_->mutation() == Mutation::kStaleStagedEarly;
  if (!early && world_->mutation() != Mutation::kStaleStagedAccepted) return;
  if (staged != nullptr) earlier_staged_.try_emplace(from->from, *staged);
  PretendStagedAgain(early);
}

// Once in an attempt: when the transfer begins, or when all workers are prepared and the trainer is
// not.
void CoordinatorShell::PretendStagedAgain(bool early) {
  const auto& epoch = machine_.epoch();
  const EpochPhase phase = early ? EpochPhase::kOffers : EpochPhase::kStreaming;
  if (!epoch || epoch->phase != phase || epoch->key == pretended_) return;
  const bool open =
      std::any_of(epoch->participants.begin(), epoch->participants.end(),
                  [](const Participant& p) { return p.role == Role::kWorker && !p.prepared; });
  if (early && (!epoch->ahead || open || epoch->Waiting().empty())) return;
  pretended_ = epoch->key;
  for (auto& [member, old] : earlier_staged_) {
    Staged again = old;
    again.key = pretended_;
    Feed(FromMember{member, again});
  }
}

}  // namespace packcast::sim
