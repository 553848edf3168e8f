// A few hundred seeds keep every invariant, and a seed is a run.
#include "gtest/gtest.h"

#include "tests/sim/run.h"

namespace packcast::sim {
namespace {

constexpr uint64_t kSeeds = 300;

std::string Lines(const std::deque<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

TEST(Simulation, KeepsItsInvariants) {
  Stats sum;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const RunResult result = RunSeed({.seed = seed});
    sum.Add(result.stats);
    if (result.violation.empty()) continue;
    FAIL() << "seed " << seed << ": " << result.violation << "\n"
           << Lines(RunSeed({.seed = seed, .lines = 60}).trace);
  }
  // The seeds are worth something only if much went well and much went wrong.
  EXPECT_GT(sum.committed, 3 * kSeeds);
  EXPECT_GT(sum.decided_alone, kSeeds);
  EXPECT_GT(sum.aborted, kSeeds / 5);
  EXPECT_GT(sum.retries, kSeeds / 5);
  EXPECT_GT(sum.stale_dropped, 0u);
  EXPECT_GT(sum.several_flows, kSeeds / 5);
  EXPECT_GT(sum.early, kSeeds);
  EXPECT_GT(sum.early_given_up, kSeeds / 5);
  EXPECT_GT(sum.partly_reused, kSeeds / 20);
  EXPECT_GT(sum.staged_early, kSeeds / 20);
  EXPECT_GT(sum.staged_crossed, 0u);
  EXPECT_GT(sum.caught_up, kSeeds / 5);
  EXPECT_GT(sum.not_caught_up, kSeeds / 20);
  EXPECT_GT(sum.rivals, kSeeds / 20);
  EXPECT_GT(sum.takeovers, kSeeds / 20);
  EXPECT_GT(sum.foreign, 0u);
  EXPECT_GT(sum.zombies, kSeeds / 5);
  EXPECT_GT(sum.replayed, kSeeds);
  EXPECT_GT(sum.lazy_drains, 0u);
  for (const uint64_t torn : sum.decisions_torn) EXPECT_GT(torn, 0u);
}

TEST(Simulation, WorksWithAnyNumberOfWorkers) {
  for (const uint32_t workers : {1u, 2u, 16u}) {
    const RunResult result = RunSeed({.seed = 77, .workers = workers});
    EXPECT_EQ(result.violation, "") << workers << " workers";
    EXPECT_GT(result.stats.committed, 0u);
  }
}

TEST(Simulation, ASeedGivesTheSameRunEachTime) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const RunResult once = RunSeed({.seed = seed});
    const RunResult again = RunSeed({.seed = seed, .lines = 100});  // looking changes nothing
    EXPECT_EQ(once.trace_hash, again.trace_hash) << "seed " << seed;
    EXPECT_EQ(once.stats.events, again.stats.events) << "seed " << seed;
  }
  EXPECT_NE(RunSeed({.seed = 1}).trace_hash, RunSeed({.seed = 2}).trace_hash);
}

}  // namespace
}  // namespace packcast::sim
