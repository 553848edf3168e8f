// The invariants bite: each of these bugs, put into a shell on purpose, is found within a few
// seeds, and under the invariant's own name.
#include "gtest/gtest.h"

#include "tests/sim/run.h"

namespace packcast::sim {
namespace {

struct Case {
  Mutation mutation;
  std::string_view found_as;  // how the violation begins
  uint64_t seeds;             // enough to find it, with room
};

void PrintTo(const Case& c, std::ostream* out) { *out << MutationName(c.mutation); }

// "InstallSkipped" of "install-skipped".
std::string NameOf(Mutation mutation) {
  std::string name;
  bool upper = true;
  for (const char c : MutationName(mutation)) {
    if (c != '-') name += upper ? static_cast<char>(c - 'a' + 'A') : c;
    upper = c == '-';
  }
  return name;
}

class MutationTest : public testing::TestWithParam<Case> {};

TEST_P(MutationTest, IsFound) {
  const Case& c = GetParam();
  for (uint64_t seed = 1; seed <= c.seeds; ++seed) {
    const RunResult result = RunSeed({.seed = seed, .mutation = c.mutation});
    // What it brings about later may be seen first.
    if (!result.violation.starts_with(c.found_as)) continue;
    RecordProperty("seed", static_cast<int>(seed));
    return;
  }
  FAIL() << "not found within " << c.seeds << " seeds";
}

INSTANTIATE_TEST_SUITE_P(
    All, MutationTest,
    testing::Values(
        Case{Mutation::kCommitOneStagedEarly, "S5", 20}, Case{Mutation::kAbortIgnored, "S9", 60},
        Case{Mutation::kStaleStagedAccepted, "S5", 20}, Case{Mutation::kGenerationReused, "S4", 20},
        Case{Mutation::kWriteBeforeQuiesce, "S2", 20},
        Case{Mutation::kSourceFreeAtStreamEnd, "S1", 300},
        Case{Mutation::kInstallSkipped, "S1", 20}, Case{Mutation::kTermNotRaised, "L", 60},
        Case{Mutation::kAnswerLost, "L", 20}, Case{Mutation::kExpelledForgotten, "L2", 60},
        Case{Mutation::kInnocentAccused, "B1", 2000}, Case{Mutation::kShutdownForgotten, "L2", 300},
        Case{Mutation::kGenerationKept, "S4", 60}, Case{Mutation::kAbortClosesOneFlow, "S9", 300},
        Case{Mutation::kStagedAfterFirstFlow, "S5", 20},
        Case{Mutation::kEarlyWithoutGrants, "S3", 60},
        Case{Mutation::kRelayWithoutGrants, "S3", 400},
        Case{Mutation::kRelayGrantsTooEarly, "S3", 200},
        Case{Mutation::kGrantsOfLastStream, "S3", 60}, Case{Mutation::kStaleStagedEarly, "S5", 60},
        Case{Mutation::kRowInNoFlow, "S1", 60}, Case{Mutation::kRowInTwoFlows, "S1", 60},
        Case{Mutation::kNonceIgnored, "S10", 60}, Case{Mutation::kTermIgnored, "L", 2500},
        Case{Mutation::kForwardOnComingBack, "S", 2500},
        Case{Mutation::kBackAfterDecision, "S10", 200}, Case{Mutation::kReplicaByRank, "S2", 60},
        Case{Mutation::kHaltAfterGather, "L2", 600}, Case{Mutation::kDrainToOwnGroup, "lazy", 2500},
        Case{Mutation::kClocksCompared, "L1", 60}, Case{Mutation::kDeadlineLost, "L2", 60},
        Case{Mutation::kCatchUpTakenForEpoch, "S", 100},
        Case{Mutation::kCopyWrittenOver, "S1", 1000}, Case{Mutation::kCatchUpForgotten, "L1", 300}),
    [](const testing::TestParamInfo<Case>& c) { return NameOf(c.param.mutation); });

TEST(Mutations, HaveNames) {
  for (size_t k = 0; k < kMutations; ++k) {
    const auto mutation = static_cast<Mutation>(k);
    EXPECT_EQ(MutationOf(MutationName(mutation)), mutation);
  }
  EXPECT_EQ(MutationOf("no-such-bug"), std::nullopt);
}

}  // namespace
}  // namespace packcast::sim
