#include "tests/runtime/sim/world.h"

namespace packcast::rtsim {

Scenario MakeScenario(Random* random) {
  Scenario scenario;
  const int64_t hosts = random->Between(2, 3);
  for (int64_t k = 0; k < hosts; ++k) scenario.hosts.push_back(std::to_string(k));
  for (int64_t k = random->Between(1, 2); k > 0; --k) {
    ServantPlan plan;
    plan.name = "servant/" + std::to_string(k);
    if (random->Chance(0.2)) plan.concurrency = 2;
    plan.concurrent_control = random->Chance(0.3);
    if (random->Chance(0.3)) plan.window = static_cast<size_t>(random->Between(1, 8));
    scenario.servants.push_back(plan);
  }
  scenario.callers = static_cast<int>(random->Between(0, 2));
  scenario.options.executor_threads = static_cast<int>(random->Between(1, 3));
  scenario.options.beat_interval = Milliseconds(150);
  scenario.faults = random->Between(Milliseconds(500), Seconds(5));
  scenario.pause_max = random->Between(Milliseconds(20), Milliseconds(400));
  scenario.burst_max = static_cast<int>(random->Between(1, 12));
  scenario.slow = random->Chance(0.5) ? 0.02 : 0.2;
  scenario.padding_max = random->Chance(0.5) ? 100 : 20'000;
  return scenario;
}

}  // namespace packcast::rtsim
