// A few hundred seeds keep every invariant, and a seed is a run.
#include "gtest/gtest.h"

#include "tests/sim/run.h"

namespace packcast::sim {
namespace {

// Sanitizers cost a factor of 10 to 30; the same seeds' tail is left to the plain build.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 120;
#else
constexpr uint64_t kSeeds = 300;
#endif

std::string Tail(const RunResult& result) {
  std::string out;
  const size_t lines = result.trace.size();
  for (size_t k = lines > 60 ? lines - 60 : 0; k < lines; ++k) out += result.trace[k] + "\n";
  return out;
}

TEST(Simulation, KeepsItsInvariants) {
  Stats sum;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    RunOptions options{.seed = seed};
    const RunResult result = RunSeed(options);
    sum.committed += result.stats.committed;
    sum.aborted += result.stats.aborted;
    sum.retries += result.stats.retries;
    sum.stale_dropped += result.stats.stale_dropped;
    sum.several_flows += result.stats.several_flows;
    sum.partly_reused += result.stats.partly_reused;
    sum.early += result.stats.early;
    sum.early_given_up += result.stats.early_given_up;
    sum.staged_early += result.stats.staged_early;
    sum.staged_crossed += result.stats.staged_crossed;
    sum.caught_up += result.stats.caught_up;
    sum.not_caught_up += result.stats.not_caught_up;
    if (result.violation.empty()) continue;
    options.record = true;
    FAIL() << "seed " << seed << ": " << result.violation << "\n" << Tail(RunSeed(options));
  }
  // The seeds are worth something only if much went well and much went wrong.
  EXPECT_GT(sum.committed, 3 * kSeeds);
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
    const RunResult again = RunSeed({.seed = seed, .record = true});  // looking changes nothing
    EXPECT_EQ(once.trace_hash, again.trace_hash) << "seed " << seed;
    EXPECT_EQ(once.stats.events, again.stats.events) << "seed " << seed;
  }
  EXPECT_NE(RunSeed({.seed = 1}).trace_hash, RunSeed({.seed = 2}).trace_hash);
}

}  // namespace
}  // namespace packcast::sim
