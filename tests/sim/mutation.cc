#include "tests/sim/mutation.h"

namespace packcast::sim {

std::string_view MutationName(Mutation mutation) {
  switch (mutation) {
    case Mutation::kNone: return "none";
    case Mutation::kCommitOneStagedEarly: return "commit-one-staged-early";
    case Mutation::kAbortIgnored: return "abort-ignored";
    case Mutation::kStaleStagedAccepted: return "stale-staged-accepted";
    case Mutation::kGenerationReused: return "generation-reused";
    case Mutation::kWriteBeforeQuiesce: return "write-before-quiesce";
    case Mutation::kSourceFreeAtStreamEnd: return "source-free-at-stream-end";
    case Mutation::kInstallSkipped: return "install-skipped";
    case Mutation::kTermNotRaised: return "term-not-raised";
    case Mutation::kAnswerLost: return "answer-lost";
    case Mutation::kExpelledForgotten: return "expelled-forgotten";
    case Mutation::kInnocentAccused: return "innocent-accused";
    case Mutation::kShutdownForgotten: return "shutdown-forgotten";
    case Mutation::kGenerationKept: return "generation-kept";
    case Mutation::kAbortClosesOneFlow: return "abort-closes-one-flow";
    case Mutation::kStagedAfterFirstFlow: return "staged-after-first-flow";
    case Mutation::kEarlyWithoutGrants: return "early-without-grants";
    case Mutation::kRelayWithoutGrants: return "relay-without-grants";
    case Mutation::kRelayGrantsTooEarly: return "relay-grants-too-early";
    case Mutation::kGrantsOfLastStream: return "grants-of-last-stream";
    case Mutation::kStaleStagedEarly: return "stale-staged-early";
    case Mutation::kRowInNoFlow: return "row-in-no-flow";
    case Mutation::kRowInTwoFlows: return "row-in-two-flows";
    case Mutation::kNonceIgnored: return "nonce-ignored";
    case Mutation::kTermIgnored: return "term-ignored";
    case Mutation::kForwardOnComingBack: return "forward-on-coming-back";
    case Mutation::kBackAfterDecision: return "back-after-decision";
    case Mutation::kReplicaByRank: return "replica-by-rank";
    case Mutation::kHaltAfterGather: return "halt-after-gather";
    case Mutation::kDrainToOwnGroup: return "drain-to-own-group";
    case Mutation::kClocksCompared: return "clocks-compared";
    case Mutation::kDeadlineLost: return "deadline-lost";
    case Mutation::kCatchUpTakenForEpoch: return "catch-up-taken-for-epoch";
    case Mutation::kCopyWrittenOver: return "copy-written-over";
    case Mutation::kCatchUpForgotten: return "catch-up-forgotten";
  }
  return "unknown";
}

std::optional<Mutation> MutationOf(std::string_view name) {
  for (size_t k = 0; k < kMutations; ++k) {
    if (MutationName(static_cast<Mutation>(k)) == name) return static_cast<Mutation>(k);
  }
  return std::nullopt;
}

}  // namespace packcast::sim
