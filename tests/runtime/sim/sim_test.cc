// A few hundred seeds keep what docs/actors.md promises, and a seed is a run.
#include <string>

#include <gtest/gtest.h>

#include "tests/runtime/sim/run.h"

namespace packcast::rtsim {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kSeeds = 60;
#else
constexpr uint64_t kSeeds = 300;
#endif

std::string Tail(const RunResult& result) {
  std::string out;
  const size_t lines = result.trace.size();
  for (size_t k = lines > 60 ? lines - 60 : 0; k < lines; ++k) out += result.trace[k] + "\n";
  return out;
}

TEST(ActorSimulation, KeepsItsPromises) {
  Stats sum;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const RunResult result = RunSeed({.seed = seed});
    sum.Add(result.stats);
    if (result.violation.empty()) continue;
    FAIL() << "seed " << seed << ": " << result.violation << "\n"
           << "bazel run //tests/runtime/sim:explore -- --seeds 1 --trace --first-seed " << seed
           << "\n"
           << Tail(RunSeed({.seed = seed, .record = true}));
  }
  // The seeds are worth something only if much went well and much went wrong.
  EXPECT_GT(sum.ran, 100 * kSeeds);
  EXPECT_GT(sum.failed, 20 * kSeeds);
  EXPECT_GT(sum.refused, kSeeds);
  EXPECT_GT(sum.lost, kSeeds);
}

TEST(ActorSimulation, ASeedGivesTheSameRunEachTime) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const RunResult once = RunSeed({.seed = seed});
    const RunResult again = RunSeed({.seed = seed, .record = true});  // looking changes nothing
    EXPECT_EQ(once.trace_hash, again.trace_hash) << "seed " << seed;
    EXPECT_EQ(once.stats.steps, again.stats.steps) << "seed " << seed;
  }
  EXPECT_NE(RunSeed({.seed = 1}).trace_hash, RunSeed({.seed = 2}).trace_hash);
}

}  // namespace
}  // namespace packcast::rtsim
