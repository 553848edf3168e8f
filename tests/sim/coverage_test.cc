// What the simulation reaches: every fault meets every role in every state.
#include "tests/sim/coverage.h"

#include "gtest/gtest.h"

#include "tests/sim/run.h"

namespace packcast::sim {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 200;  // the plain build has them all
constexpr double kMissing = 0.5;
#else
constexpr uint64_t kSeeds = 4000;
constexpr double kMissing = 0;
#endif

std::string Lines(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

TEST(Coverage, EveryFaultMeetsEveryRoleInEveryState) {
  Coverage coverage;
  const size_t all = coverage.Missing().size();
  for (uint64_t seed = 1; seed <= kSeeds; ++seed)
    coverage.Add(RunSeed({.seed = seed}).stats.coverage);
  const std::vector<std::string> missing = coverage.Missing();
  EXPECT_LE(static_cast<double>(missing.size()), kMissing * static_cast<double>(all))
      << Lines(missing);
}

TEST(Coverage, MissesWhatNeverMetUnlessARuleExcludesIt) {
  Coverage coverage;
  const std::string pair = "freeze of a worker in state \"streaming\"";
  EXPECT_NE(Lines(coverage.Missing()).find(pair), std::string::npos);
  coverage.Met(Fault::kFreeze, Who::kWorker, StateOf(MemberPhase::kStreaming));
  EXPECT_EQ(Lines(coverage.Missing()).find(pair), std::string::npos);
  for (const std::string excluded : {"kill-trainer of a worker", "worker in state \"halted\"",
                                     "wedge of a worker in state \"idle\""}) {
    EXPECT_EQ(Lines(coverage.Missing()).find(excluded), std::string::npos) << excluded;
  }
}

}  // namespace
}  // namespace packcast::sim
