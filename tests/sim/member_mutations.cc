// Bugs of members, put in on purpose.
#include <utility>

#include "tests/sim/member_shell.h"

namespace packcast::sim {

// The worker says that it has stopped, and goes on.
bool MemberShell::IgnoresAbort(const MemberEvent& event) {
  const auto* message = std::get_if<CoordinatorMessage>(&event);
  if (message == nullptr) return false;
  if (std::holds_alternative<SyncDone>(*message)) {
    return world_->mutation() == Mutation::kAnswerLost;
  }
  const auto* abort = std::get_if<AbortAttempt>(message);
  if (world_->mutation() != Mutation::kAbortIgnored || abort == nullptr) return false;
  if (!is_worker() || job_ != Job::kStream || abort->key != job_key_) return false;
  Do(SendToCoordinator{AttemptAborted{abort->key, AbortOutcome::kClean, member().dirty()}});
  return true;
}

MemberEvent MemberShell::Mutated(const MemberEvent& event) {
  const Mutation mutation = world_->mutation();
  const bool lost = std::holds_alternative<CoordinatorLost>(event);
  if (mutation == Mutation::kForwardOnComingBack && lost && member().connected() &&
      member().phase() == MemberPhase::kStaged) {
    Receive(CoordinatorMessage(Commit{member().key()}));
  }
  const auto* message = std::get_if<CoordinatorMessage>(&event);
  if (message == nullptr || mutation != Mutation::kTermIgnored) return event;
  CoordinatorMessage mutated = *message;
  std::visit(
      [&](auto& m) {
        if constexpr (requires { m.key.term; }) m.key.term = member().promised();
      },
      mutated);
  return mutated;
}

MemberMessage MemberShell::Mutated(MemberMessage message) const {
  if (auto* join = std::get_if<JoinCluster>(&message)) {
    if (world_->mutation() == Mutation::kTermNotRaised) join->promised = {};
    if (world_->mutation() == Mutation::kReplicaByRank && is_worker()) {
      join->unit = process_->name;
      join->rank_in_unit = 0;
      join->unit_size = 1;
    }
  }
  return message;
}

// All members take another contract than the coordinator's for the agreed one.
std::shared_ptr<const Contract> MemberShell::AsAgreed(const PrepareAttempt& effect) const {
  const bool adds = world_->mutation() == Mutation::kRowInTwoFlows;
  if (!adds && world_->mutation() != Mutation::kRowInNoFlow) return effect.contract;
  auto contract = std::make_shared<Contract>(*effect.contract);
  const auto last = static_cast<uint32_t>(effect.manifest->size() - 1);
  for (Flow& flow : contract->flows) {
    if (flow.rows.empty()) continue;  // of one root
    RowRange& range = flow.rows.back();
    const bool alone = flow.rows.size() == 1 && range.begin == last;  // no rows would mean all
    if (adds && range.end == last) {
      ++range.end;
    } else if (adds && range.end < last) {
      flow.rows.push_back({last, last + 1});
    } else if (!adds && range.end > last && !alone) {
      --range.end;
      if (range.begin == range.end) flow.rows.pop_back();
    }
  }
  return contract;
}

// An old generation of the same transport and root will do.
bool MemberShell::KeepsGeneration(Lane* lane) {
  if (world_->mutation() != Mutation::kGenerationKept) return false;
  const Flow& flow = FlowOf(*lane);
  GenerationId& kept = kept_[{flow.transport, flow.root_member()}];
  const bool lives = around_->data_plane->Lives(process_, kept);
  if (lives) lane->generation = kept;
  kept = lane->generation;
  return lives;
}

}  // namespace packcast::sim
