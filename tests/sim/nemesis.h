#pragma once

#include "tests/sim/cluster.h"

namespace packcast::sim {

// Spreads the scenario's faults over its unrest, each with its end (restart, thaw, heal), and
// strikes more often while something is going on.
class Nemesis {
 public:
  Nemesis(World* world, const Scenario& scenario, Cluster* cluster)
      : world_(world), scenario_(scenario), cluster_(cluster) {}
  void Begin();
  // A sync was called: an epoch is about to run.
  void OnCall();
  // A root streams, perhaps to members that are not prepared: the time between is short.
  void OnEarlyRoot();
  // A catch-up begins: it is short, and nobody else takes part.
  void OnCatchUp();
  // A member is in a state that chance alone would seldom strike.
  void OnBriefState(const std::string& name);
  // Strikes no more.
  void Calm() { calm_ = true; }

 private:
  Fault AnyFault() { return scenario_.kinds[world_->random.Below(scenario_.kinds.size())]; }
  void StrikeAt(Duration at);
  void Strike(Fault fault);
  void StrikeName(Fault fault, const std::string& name);
  void Count(Fault fault, const std::string& name);
  std::string Victim(bool workers_only);

  World* const world_;
  const Scenario& scenario_;
  Cluster* const cluster_;
  bool calm_ = false;
};

}  // namespace packcast::sim
