// A worker that others catch up from, and mutations of who catches up.
#include "tests/sim/member_shell.h"

namespace packcast::sim {

// Whether it serves meanwhile and what came are its truth: CheckService of both sides.
uint64_t MemberShell::ReadServed(FlowId flow, uint32_t cell) {
  if (!sends_) Violate("S3: a worker sends that was not asked to");
  if (!member().in_service() || member().serving() != version_) {
    Violate("S1: sends " + ToString(version_) + " and serves " + ToString(member().serving()));
  }
  uint64_t word = live_[cell];
  if (world_->mutation() == Mutation::kCopyWrittenOver) word += uint64_t{1} << 16;
  if (Lane* lane = FindLane(flow)) lane->digest = Combine(lane->digest, DigestOf(word));
  return word;
}

// Mutation: who catches up takes the proposal for a sync's.
bool MemberShell::MistakesCatchUp(const MemberEvent& event) {
  if (world_->mutation() != Mutation::kCatchUpTakenForEpoch) return false;
  const auto* message = std::get_if<CoordinatorMessage>(&event);
  const auto* propose = message == nullptr ? nullptr : std::get_if<Propose>(message);
  const bool provides = propose != nullptr && propose->base == member().serving();
  if (propose == nullptr || propose->kind != SyncKind::kCatchUp || provides) return false;
  Propose taken = *propose;
  taken.kind = SyncKind::kFull;
  Feed(CoordinatorMessage(taken));
  return true;
}

}  // namespace packcast::sim
