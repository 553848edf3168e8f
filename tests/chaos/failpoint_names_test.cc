// The list of failpoints is complete: the simulation passes no other, and almost all of them.
#include "tests/chaos/failpoint_names.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "runtime/base/failpoint.h"
#include "tests/sim/run.h"

namespace packcast::chaos {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 200;  // the plain build looks for all of them
constexpr bool kAll = false;
#else
constexpr uint64_t kSeeds = 2000;
constexpr bool kAll = true;
#endif

std::set<std::string, std::less<>>& Passed() {
  static std::set<std::string, std::less<>> passed;
  return passed;
}

TEST(FailpointNames, AreThoseThatTheSimulationPasses) {
  SetFailpointHook([](std::string_view name) {
    if (!Passed().contains(name)) Passed().emplace(name);
    return OkStatus();
  });
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    ASSERT_EQ(sim::RunSeed({.seed = seed}).violation, "") << "seed " << seed;
  }
  SetFailpointHook(nullptr);
  ASSERT_FALSE(Passed().empty());
  for (const FailpointName& listed : FailpointNames()) {
    const bool was_passed = Passed().erase(listed.name) > 0;
    const bool must_be = kAll && listed.is_step && !listed.is_rare;
    EXPECT_TRUE(was_passed || !must_be) << listed.name;
  }
  for (const std::string& unlisted : Passed()) ADD_FAILURE() << unlisted << " is not listed";
}

TEST(FailpointNames, AreListedOnce) {
  std::set<std::string> names;
  for (const FailpointName& listed : FailpointNames()) {
    EXPECT_TRUE(names.insert(listed.name).second) << listed.name;
  }
}

}  // namespace
}  // namespace packcast::chaos
