#include "tests/sim/scenario.h"

#include <algorithm>
#include <iterator>

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
  scenario->offer_changes = maybe(0.1);
  for (size_t k = 0; k <= static_cast<size_t>(Fault::kSlow); ++k) {
    if (random->Chance(0.4)) scenario->kinds.push_back(static_cast<Fault>(k));
  }
  scenario->faults = scenario->kinds.empty() ? 0 : static_cast<uint32_t>(random->Between(1, 10));
  scenario->strike = random->Chance(0.7) ? 0.5 : 0;
  scenario->strike_early = random->Chance(0.5) ? 0.2 : 0;
  scenario->strike_brief = random->Chance(0.5) ? 0.3 : 0;
}

// Epochs of several flows.
void ChooseFlows(Random* random, Scenario* scenario) {
  if (random->Chance(0.6)) return;
  scenario->two_transports = random->Chance(0.6);
  scenario->near_workers = random->Next();
  if (random->Chance(0.3)) scenario->only_near = random->Next();
  scenario->near_relays = random->Chance(0.5);
  if (scenario->two_transports && random->Chance(0.4)) return;
  scenario->trainer_ranks = random->Chance(0.3) ? 3 : 2;
  scenario->held = random->Chance(0.5) ? Held::kParts : Held::kOverlap;
  scenario->held_seed = random->Next();
  scenario->held_varies = random->Chance(0.3);
}

}  // namespace

std::optional<std::vector<RowRange>> HeldBy(const Scenario& scenario, uint32_t rank, uint64_t rows,
                                            uint64_t label) {
  if (scenario.held == Held::kAll) return std::nullopt;
  const uint64_t seed = scenario.held_seed + (scenario.held_varies ? label / 2 : 0);
  std::vector<RowRange> held;
  for (uint32_t row = 0; row < rows; ++row) {
    const uint64_t draw = Mix(seed ^ Mix(row + 1));
    const bool own = draw % scenario.trainer_ranks == rank;
    const bool also = scenario.held == Held::kOverlap && draw / 64 % 3 == 0;
    if (!own && !also) continue;
    if (held.empty() || held.back().end != row) held.push_back({row, row});
    ++held.back().end;
  }
  return held;
}

std::vector<TransportOffer> TransportsOf(const Scenario& scenario, Role role, uint64_t number) {
  if (!scenario.two_transports) return {{.kind = "sim"}};
  const bool is_near = role == Role::kTrainer || (scenario.near_workers >> number % 64 & 1) != 0;
  if (!is_near) return {{.kind = kFarTransport}};
  const TransportOffer near{.kind = kNearTransport, .relays = scenario.near_relays};
  const bool only = role == Role::kWorker && (scenario.only_near >> number % 64 & 1) != 0;
  if (only) return {near};
  return {near, {.kind = kFarTransport}};
}

bool IsPeaceful(const Scenario& s) {
  const double trouble =
      s.refuse + s.join_fails + s.stream_fails + s.install_fails + s.wedge + s.offer_changes;
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
  ChooseFlows(random, &scenario);
  scenario.host_transport = random->Chance(0.5);
  scenario.late_messages = random->Chance(0.5) ? 0.03 : 0;
  scenario.echo = random->Chance(0.3) ? 0.1 : 0;
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
  // Draws nothing: without it a seed is the run that it was.
  const uint64_t serve = Mix(static_cast<uint64_t>(scenario.unrest.count()));
  if (serve % 2 == 1) scenario.can_serve = Mix(serve);
  return scenario;
}

}  // namespace packcast::sim
