#pragma once

#include <cstdint>
#include <vector>

#include "actors/epoch.h"
#include "protocol/contract.h"
#include "tests/sim/world.h"

namespace packcast::sim {

// What a seed stands for.
struct Scenario {
  uint32_t trainer_ranks = 1;
  std::vector<uint32_t> replica_sizes;
  bool host_transport = true;
  ContractPolicy policy;
  EpochDeadlines deadlines;
  // The first half: this long, with so many faults of the kinds that the seed allows.
  Duration unrest = Seconds(20);
  uint32_t faults = 0;
  std::vector<Fault> kinds;
  double strike = 0;  // chance of one more with each sync call
  // Chance of local trouble, per piece of local work during the unrest.
  double refuse = 0;
  double join_fails = 0;
  double stream_fails = 0;
  double install_fails = 0;
  double wedge = 0;
  // The user.
  uint32_t calls = 8;
  Duration pause_low = Milliseconds(20);
  Duration pause_high = Seconds(2);
  Duration call_deadline = Seconds(30);
  double second_call = 0.3;  // opened while one runs
  double supersede = 0.3;
  double cancel = 0.1;
  double control = 0.3;  // limits, drains, syncs by control
};

// Nobody and nothing disturbs the epochs, so each must commit at its first attempt.
bool IsPeaceful(const Scenario& scenario);

// `workers`: fixed number of worker ranks, or 0 to let the seed choose 1 to 8.
Scenario MakeScenario(Random* random, uint32_t workers);

}  // namespace packcast::sim
