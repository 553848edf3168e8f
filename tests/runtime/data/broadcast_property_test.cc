#include "gtest/gtest.h"

#include "tests/runtime/data/broadcast_cases.h"

namespace packcast {
namespace {

using testing::FromEnvironment;
using testing::kCases;

TEST(BroadcastProperty, EveryByteArrivesWhateverTheManifestAndTheSettings) {
  const uint64_t first = FromEnvironment("PACKCAST_PROPERTY_SEED", 1);
  const uint64_t cases = FromEnvironment("PACKCAST_PROPERTY_CASES", kCases);
  for (uint64_t seed = first; seed < first + cases && !HasFatalFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    testing::CaseMaker maker(seed);
    testing::Case c = maker.Make();
    testing::RunCase(&c, &maker, MakeLocalTransport().get());
  }
}

}  // namespace
}  // namespace packcast
