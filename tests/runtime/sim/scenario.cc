#include <utility>

#include "tests/runtime/sim/world.h"

namespace packcast::rtsim {

namespace {

ServantPlan MakePlan(std::string name, Random* random) {
  ServantPlan plan;
  plan.name = std::move(name);
  if (random->Chance(0.2)) plan.concurrency = 2;
  plan.concurrent_control = random->Chance(0.3);
  if (random->Chance(0.3)) plan.window = static_cast<size_t>(random->Between(1, 8));
  constexpr int kRestarts[] = {0, 1, 3, -1};
  plan.restart.max_restarts = kRestarts[random->Below(4)];
  plan.restart.backoff = Milliseconds(random->Between(0, 20));
  plan.restart.backoff_max = Milliseconds(random->Between(20, 200));
  if (random->Chance(0.3)) plan.restart.healthy_after = Milliseconds(200);
  return plan;
}

}  // namespace

Scenario MakeScenario(Random* random) {
  Scenario scenario;
  const int64_t hosts = random->Between(2, 3);
  for (int64_t k = 0; k < hosts; ++k) scenario.hosts.push_back(std::to_string(k));
  for (int64_t k = random->Between(1, 2); k > 0; --k) {
    scenario.servants.push_back(MakePlan("servant/" + std::to_string(k), random));
  }
  for (int64_t k = random->Between(0, 2); k > 0; --k) {
    scenario.servants.push_back(MakePlan("sender/" + std::to_string(k), random));
    scenario.servants.back().sends = true;
    scenario.servants.back().links = random->Chance(0.2);
  }
  scenario.options.executor_threads = static_cast<int>(random->Between(1, 3));
  scenario.options.beat_interval = Milliseconds(150);
  scenario.faults = random->Between(Milliseconds(500), Seconds(5));
  scenario.pause_max = random->Between(Milliseconds(20), Milliseconds(400));
  scenario.burst_max = random->Between(1, 12);
  scenario.has_faults = random->Chance(0.8);
  if (random->Chance(0.5)) scenario.failing = random->Chance(0.5) ? 0.05 : 0.5;
  if (random->Chance(0.3)) scenario.killing = 0.05;
  if (random->Chance(0.3)) scenario.stopping = 0.05;
  if (random->Chance(0.01)) scenario.flooding = 0.05;
  scenario.slow = random->Chance(0.5) ? 0.02 : 0.2;
  // Long ones travel as frames of their own.
  scenario.padding_max = random->Chance(0.5) ? 100 : random->Chance(0.7) ? 20'000 : 100'000;
  return scenario;
}

}  // namespace packcast::rtsim
