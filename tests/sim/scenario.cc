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
  for (size_t k = 0; k < kFaultsFromOutside; ++k) {
    if (random->Chance(0.3)) scenario->kinds.push_back(static_cast<Fault>(k));
  }
  scenario->faults = scenario->kinds.empty() ? 0 : static_cast<uint32_t>(random->Between(1, 10));
  scenario->strike = random->Chance(0.7) ? 0.5 : 0;
  scenario->strike_early = random->Chance(0.5) ? 0.2 : 0;
  scenario->strike_catch_up = random->Chance(0.5) ? 0.4 : 0;
  scenario->strike_brief = random->Chance(0.5) ? 0.6 : 0;
  scenario->strike_state = random->Chance(0.5) ? 0.03 : 0;
  if (!scenario->Has(Fault::kTorn)) return;
  scenario->tear = 0.003;
  scenario->tear_decision = 0.1;
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

void ChooseUser(Random* random, Scenario* scenario) {
  scenario->calls = static_cast<uint32_t>(random->Between(2, 16));
  scenario->pause_high = random->Between(Milliseconds(50), Seconds(2));
  scenario->second_call = random->Chance(0.5) ? 0.4 : 0;
  scenario->cancel = random->Chance(0.3) ? 0.2 : 0;
  scenario->control = random->Chance(0.5) ? 0.3 : 0;
}

void DoWithout(Trait trait, Scenario* scenario) {
  switch (trait) {
    case Trait::kTwoTransports: scenario->two_transports = false; return;
    case Trait::kTrainerRanks: scenario->trainer_ranks = 1; return;
    case Trait::kHeldRows: scenario->held = Held::kAll; return;
    case Trait::kLazy: scenario->lazy = false; return;
    case Trait::kPairs: {
      uint32_t workers = 0;
      for (const uint32_t size : scenario->replica_sizes) workers += size;
      scenario->replica_sizes.assign(workers, 1);
      return;
    }
    case Trait::kInPlace: scenario->policy.install = InstallMode::kStaged; return;
    case Trait::kLate: scenario->late_messages = 0; return;
    case Trait::kEcho: scenario->echo = 0; return;
    case Trait::kOthersHeard: scenario->hears_others = false; return;
    case Trait::kDrift: scenario->drift = 0; return;
    case Trait::kOfferChanges: scenario->offer_changes = 0; return;
    case Trait::kCatchUps: scenario->can_serve = 0; return;
    case Trait::kSecondCalls: scenario->second_call = scenario->supersede = 0; return;
    case Trait::kCancels: scenario->cancel = 0; return;
    case Trait::kControl: scenario->control = 0; return;
    case Trait::kEach: scenario->commit = CommitPolicy::kAll; return;
  }
}

}  // namespace

std::string_view TraitName(Trait trait) {
  switch (trait) {
    case Trait::kTwoTransports: return "two-transports";
    case Trait::kTrainerRanks: return "trainer-ranks";
    case Trait::kHeldRows: return "held-rows";
    case Trait::kLazy: return "lazy";
    case Trait::kPairs: return "pairs";
    case Trait::kInPlace: return "in-place";
    case Trait::kLate: return "late";
    case Trait::kEcho: return "echo";
    case Trait::kOthersHeard: return "others-heard";
    case Trait::kDrift: return "drift";
    case Trait::kOfferChanges: return "offer-changes";
    case Trait::kCatchUps: return "catch-ups";
    case Trait::kSecondCalls: return "second-calls";
    case Trait::kCancels: return "cancels";
    case Trait::kControl: return "control";
    case Trait::kEach: return "each";
  }
  return "unknown";
}

std::optional<Trait> TraitOf(std::string_view name) {
  for (size_t k = 0; k < kTraits; ++k) {
    if (TraitName(static_cast<Trait>(k)) == name) return static_cast<Trait>(k);
  }
  return std::nullopt;
}

bool Scenario::Has(Fault fault) const {
  return std::find(kinds.begin(), kinds.end(), fault) != kinds.end();
}

std::optional<std::vector<RowRange>> HeldBy(const Scenario& scenario, const MemberConfig& trainer,
                                            uint64_t rows, uint64_t label) {
  if (scenario.held == Held::kAll || trainer.unit != kTrainerUnit) return std::nullopt;
  const uint32_t rank = trainer.rank_in_unit;
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

Scenario MakeScenario(uint64_t seed, uint32_t workers, const Traits& without) {
  Random chosen(seed);
  Random* const random = &chosen;
  Scenario scenario;
  scenario.trainer_ranks = random->Chance(0.4) ? 2 : 1;
  auto left = static_cast<uint32_t>(random->Between(1, 8));
  if (workers != 0) left = workers;
  const uint32_t size_max = random->Chance(0.5) ? 1 : random->Chance(0.7) ? 2 : 3;
  Random sizes(random->Next());
  while (left > 0) {
    const uint32_t size = std::min(left, sizes.Chance(0.8) ? size_max : 1);
    scenario.replica_sizes.push_back(size);
    left -= size;
  }
  Random flows(random->Next());
  ChooseFlows(&flows, &scenario);
  scenario.lazy = random->Chance(0.4);
  scenario.gather = random->Between(Microseconds(50), Milliseconds(4));
  scenario.drift = random->Chance(0.7) ? random->Between(1, 50) : 0;
  scenario.hears_others = random->Chance(0.5);
  scenario.can_serve = random->Chance(0.7) ? random->Next() | random->Next() : 0;
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
  Random trouble(random->Next());
  if (random->Chance(0.9)) ChooseTrouble(&trouble, &scenario);
  ChooseUser(random, &scenario);
  scenario.commit = Mix(seed ^ 0xeac4) % 3 == 0 ? CommitPolicy::kEach : CommitPolicy::kAll;
  for (const Trait trait : without) DoWithout(trait, &scenario);
  return scenario;
}

}  // namespace packcast::sim
