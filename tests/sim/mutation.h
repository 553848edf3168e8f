#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace packcast::sim {

// Bugs put into the shells on purpose: the invariants must find each (mutation_test.cc).
enum class Mutation : uint8_t {
  kNone,
  kCommitOneStagedEarly,   // the coordinator is told that the last voters have staged
  kAbortIgnored,           // a worker confirms aborts and streams on
  kStaleStagedAccepted,    // Staged of an earlier attempt counts for the present one
  kGenerationReused,       // a rendezvous blob is handed out twice
  kWriteBeforeQuiesce,     // the engine is said to be quiet while it runs
  kSourceFreeAtStreamEnd,  // the trainer changes its weights once they are sent
  kInstallSkipped,         // a worker says Installed and kept its old bytes
  kTermNotRaised,          // members do not tell a new coordinator what they promised
  kAnswerLost,             // a sync.done never reaches the trainer
  kExpelledForgotten,      // a member is not told that it is out
  kInnocentAccused,        // who loses a peer of the transfer names another
  kShutdownForgotten,      // the coordinator goes on for ever once it was asked to stop
  kGenerationKept,         // members stream over an old generation of the same transport and root
  kAbortClosesOneFlow,     // a member that gives up stops one of its flows
  kStagedAfterFirstFlow,   // a worker says Staged when the first of its flows is through
  kEarlyWithoutGrants,     // a root launches what not all members have granted
  kRelayWithoutGrants,     // a rank of a chain passes on what the next one has not granted
  kRelayGrantsTooEarly,    // and grants a buffer that the next one still reads
  kGrantsOfLastStream,     // grants do not name their attempt: the last one's count for the next
  kStaleStagedEarly,       // as kStaleStagedAccepted, for who is prepared and streams before Start
  kRowInNoFlow,            // a contract's flows do not carry the last row
  kRowInTwoFlows,          // flows of several roots carry the last row
  // Of coordinators that come, go and live side by side:
  kNonceIgnored,         // terms are compared by their counter only: all nonces are the same
  kTermIgnored,          // what any coordinator says counts for the one that a member has joined
  kForwardOnComingBack,  // a staged worker installs when it loses its coordinator
  kBackAfterDecision,    // a coordinator that loses a voter after the decision aborts the others
  // Of replicas:
  kReplicaByRank,  // each rank of a replica is taken for a replica of its own
  // Of lazy trainers:
  kHaltAfterGather,  // a rank says where it has halted once the row that it gathers is there
  kDrainToOwnGroup,  // a rank that nobody tells where to stop stops where it is
  // Of time:
  kClocksCompared,  // a deadline is a time of the coordinator's clock, not how long it is until
                    // then
  kDeadlineLost,    // a coordinator is not told that a deadline has passed
  // Of catching up:
  kCatchUpTakenForEpoch,  // who catches up thinks that it gets a new version
  kCopyWrittenOver,       // a provider sends other bytes than it serves, and nobody looks
  kCatchUpForgotten,      // the coordinator is not reminded of those that are behind
};
inline constexpr size_t kMutations = 35;

// "install-skipped" and so on.
std::string_view MutationName(Mutation mutation);
std::optional<Mutation> MutationOf(std::string_view name);

}  // namespace packcast::sim
