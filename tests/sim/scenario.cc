#include "tests/sim/scenario.h"

#include <algorithm>

namespace packcast::sim {
namespace {

constexpr uint64_t kBuffers[] = {256, 512, 768, 2048};

void ChooseTrouble(Random* random, Scenario* scenario) {
  // Swizzle: every kind of trouble is in some seeds and missing from others.
  const auto maybe = [&](double chance) { return random->Chance(0.25) ? chance : 0; };
  scenario->refuse = maybe(0.03);
  scenario->join_fails = maybe(0.05);
  scenario->stream_fails = maybe(0.08);
  scenario->install_fails = maybe(0.05);
  scenario->wedge = maybe(0.1);
  for (size_t k = 0; k <= static_cast<size_t>(Fault::kSlow); ++k) {
    if (random->Chance(0.4)) scenario->kinds.push_back(static_cast<Fault>(k));
  }
  scenario->faults = scenario->kinds.empty() ? 0 : static_cast<uint32_t>(random->Between(1, 10));
  scenario->strike = random->Chance(0.7) ? 0.5 : 0;
}

}  // namespace

bool IsPeaceful(const Scenario& s) {
  const double trouble = s.refuse + s.join_fails + s.stream_fails + s.install_fails + s.wedge;
  return s.kinds.empty() && trouble + s.cancel + s.control == 0;
}

Scenario MakeScenario(Random* random, uint32_t workers) {
  Scenario scenario;
  scenario.trainer_ranks = random->Chance(0.4) ? 2 : 1;
  uint32_t left = workers != 0 ? workers : static_cast<uint32_t>(random->Between(1, 8));
  const bool pairs = random->Chance(0.5);
  while (left > 0) {
    const uint32_t size = std::min(left, pairs && random->Chance(0.8) ? 2u : 1u);
    scenario.replica_sizes.push_back(size);
    left -= size;
  }
  scenario.host_transport = random->Chance(0.5);
  scenario.policy.install = random->Chance(0.5) ? InstallMode::kInPlace : InstallMode::kStaged;
  scenario.policy.buffer_bytes = kBuffers[random->Below(std::size(kBuffers))];
  scenario.policy.buffer_count = static_cast<uint32_t>(random->Between(1, 3));
  scenario.deadlines.wait_replicas = Seconds(5);
  scenario.deadlines.offer = random->Between(Milliseconds(500), Seconds(5));
  scenario.deadlines.prepare = Seconds(8);
  scenario.deadlines.rendezvous = Seconds(4);
  scenario.deadlines.quiesce = Seconds(8);
  scenario.deadlines.transfer_base = random->Between(Seconds(1), Seconds(6));
  scenario.deadlines.install = Seconds(8);
  scenario.deadlines.abort = Seconds(3);
  scenario.unrest = random->Between(Seconds(2), Seconds(20));
  if (random->Chance(0.9)) ChooseTrouble(random, &scenario);
  scenario.calls = static_cast<uint32_t>(random->Between(2, 16));
  scenario.pause_high = random->Between(Milliseconds(50), Seconds(2));
  scenario.second_call = random->Chance(0.5) ? 0.4 : 0;
  scenario.cancel = random->Chance(0.3) ? 0.2 : 0;
  scenario.control = random->Chance(0.5) ? 0.3 : 0;
  return scenario;
}

}  // namespace packcast::sim
