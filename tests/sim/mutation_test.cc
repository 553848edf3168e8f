// The invariants bite: each of these bugs, put into a shell on purpose, is found within a few
// seeds, and under the invariant's own name.
#include "gtest/gtest.h"

#include "tests/sim/run.h"

namespace packcast::sim {
namespace {

struct Case {
  Mutation mutation;
  const char* name;
  std::string_view found_as;  // how the violation begins
  uint64_t seeds;             // enough to find it, with room
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

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
    testing::Values(Case{Mutation::kCommitOneStagedEarly, "CommitOneStagedEarly", "S5", 20},
                    Case{Mutation::kAbortIgnored, "AbortIgnored", "S9", 60},
                    Case{Mutation::kStaleStagedAccepted, "StaleStagedAccepted", "S5", 20},
                    Case{Mutation::kGenerationReused, "GenerationReused", "S4", 20},
                    Case{Mutation::kWriteBeforeQuiesce, "WriteBeforeQuiesce", "S2", 20},
                    Case{Mutation::kSourceFreeAtStreamEnd, "SourceFreeAtStreamEnd", "S1", 300},
                    Case{Mutation::kInstallSkipped, "InstallSkipped", "S1", 20},
                    Case{Mutation::kTermNotRaised, "TermNotRaised", "L", 60},
                    Case{Mutation::kAnswerLost, "AnswerLost", "L", 20},
                    Case{Mutation::kExpelledForgotten, "ExpelledForgotten", "L2", 60},
                    Case{Mutation::kInnocentAccused, "InnocentAccused", "B1", 2000},
                    Case{Mutation::kShutdownForgotten, "ShutdownForgotten", "L2", 300},
                    Case{Mutation::kGenerationKept, "GenerationKept", "S4", 60},
                    Case{Mutation::kAbortClosesOneFlow, "AbortClosesOneFlow", "S9", 300},
                    Case{Mutation::kStagedAfterFirstFlow, "StagedAfterFirstFlow", "S5", 20},
                    Case{Mutation::kEarlyWithoutGrants, "EarlyWithoutGrants", "S3", 60},
                    Case{Mutation::kRelayWithoutGrants, "RelayWithoutGrants", "S3", 200},
                    Case{Mutation::kRelayGrantsTooEarly, "RelayGrantsTooEarly", "S3", 200},
                    Case{Mutation::kGrantsOfLastStream, "GrantsOfLastStream", "S3", 60},
                    Case{Mutation::kStaleStagedEarly, "StaleStagedEarly", "S5", 60},
                    Case{Mutation::kRowInNoFlow, "RowInNoFlow", "S1", 60},
                    Case{Mutation::kRowInTwoFlows, "RowInTwoFlows", "S1", 60},
                    Case{Mutation::kCatchUpTakenForEpoch, "CatchUpTakenForEpoch", "S", 100},
                    Case{Mutation::kCopyWrittenOver, "CopyWrittenOver", "S1", 100},
                    Case{Mutation::kCatchUpForgotten, "CatchUpForgotten", "L1", 200}),
    [](const testing::TestParamInfo<Case>& c) { return c.param.name; });

}  // namespace
}  // namespace packcast::sim
