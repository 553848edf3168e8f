// The checks bite: each of these bugs, put into the runtime on purpose, is found, and as what it
// is. Some show in one run of thousands: those are looked for from the seed where they did. When
// the simulation has changed that is another one: PACKCAST_MUTATION_SEEDS=5000 looks at so many
// from the first, and says which.
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <ostream>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "tests/runtime/sim/mutant.h"
#include "tests/runtime/sim/run.h"

namespace packcast::rtsim {
namespace {

constexpr uint64_t kSeeds = 60;

struct Case {
  const char* name;           // in mutations.txt
  std::string_view found_as;  // what the violation has in its text
  uint64_t first = 1;         // seed
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class ActorMutationTest : public testing::TestWithParam<Case> {
 protected:
  ~ActorMutationTest() override { awake_mutant = ""; }
};

TEST_P(ActorMutationTest, IsFound) {
  const Case& c = GetParam();
  const char* const asked = std::getenv("PACKCAST_MUTATION_SEEDS");
  const uint64_t first = asked == nullptr ? c.first : 1;
  const uint64_t end = first + (asked == nullptr ? kSeeds : std::strtoull(asked, nullptr, 10));
  awake_mutant = c.name;
  std::string other;
  for (uint64_t seed = first; seed < end; ++seed) {
    const std::string violation = RunSeed({.seed = seed}).violation;
    if (violation.find(c.found_as) != std::string::npos) {
      std::cout << "found by seed " << seed << ": " << violation << std::endl;
      return;
    }
    // What it brings about later may be seen first.
    if (!violation.empty()) other = violation;
  }
  FAIL() << "not found by seeds " << first << " to " << end - 1
         << (other.empty() ? "" : ", only this: " + other);
}

constexpr Case kCases[] = {
    {"NoReplyCache", "it ran twice"},
    {"SentIsSaidUnsent", "it ran, and is said not to have"},
    {"LateIsSaidUnsent", "it ran, and is said not to have"},
    {"AllIsRepeated", "it ran twice"},
    {"WindowKept", "calls seem to be under way"},
    {"RoomKept", "seem to be under way"},
    {"RangesLeftBehind", "taken for malformed", 220},
    {"GivenBackReversed", "out of order"},
    {"CommandsOvertaken", "out of order"},
    {"TwoWays", "out of order", 300},
    {"CancelledRuns", "it ran, and is said not to have"},
    {"StaleRuns", "another actor"},
    {"ControlWaits", "a control message that waits"},
    {"TwoAtOnce", "at once"},
    {"QueueOutlivesLife", "it ran in life"},
    {"WorkOutlivesLife", "of a past life"},
    {"EndNotAnnounced", "it is gone"},
    {"RestartNotAnnounced", "nobody told of life"},
    {"StopIsDeath", "a death that was none", 60},
    {"ToldTwice", "told of"},
    {"EarlierIsUnnamed", "cannot call"},
    {"ChildrenKept", "outlives the life of its parent"},
};

INSTANTIATE_TEST_SUITE_P(All, ActorMutationTest, testing::ValuesIn(kCases),
                         [](const testing::TestParamInfo<Case>& c) {
                           return std::string(c.param.name);
                         });

}  // namespace
}  // namespace packcast::rtsim
