#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tests/sim/cluster.h"

namespace packcast::sim {

// Spreads the scenario's faults over its unrest, each with its end (restart, thaw, heal), and
// strikes more often while something is going on.
class Nemesis : public Cluster::Trouble {
 public:
  Nemesis(World* world, const Scenario& scenario, Cluster* cluster, uint64_t seed)
      : world_(world), scenario_(scenario), cluster_(cluster), random_(seed) {}
  void Begin();
  // A sync was called: an epoch is about to run.
  void OnCall();
  // A catch-up begins: it is short, and nobody else takes part.
  void OnCatchUp();
  // Strikes no more.
  void Calm() { calm_ = true; }

  // Cluster::Trouble.
  void OnEarlyRoot() override;
  void OnEntered(Who who, const std::string& name, size_t state) override;
  std::optional<Tear> TearOf(Who who, const std::string& name, size_t state,
                             size_t effects) override;
  std::optional<Tear> TearDecision(const std::string& name, size_t state, size_t first,
                                   size_t commits) override;

 private:
  // One fault to come; what else is chance about it does not depend on the others.
  struct Plan {
    Fault fault = Fault::kFlap;
    uint64_t seed = 0;
  };
  // Of those that may befall `who`.
  std::optional<Plan> AnyPlan(std::optional<Who> who = std::nullopt);
  void StrikeAt(Duration at);
  void Strike(const Plan& plan);
  void StrikeName(const Plan& plan, const std::string& name);
  // nemesis_strikes.cc
  void Do(Fault fault, const std::string& name, Duration while_, Random* random);
  void Count(Fault fault, const std::string& name);
  void Swizzle(Duration while_, Random* random);
  void SplitBrain(Duration while_, Random* random);
  void CutBulk(const std::string& name, Duration while_, Random* random);
  void BringRival(Duration while_, Random* random);
  std::vector<std::string> Names(std::optional<Role> role) const;
  std::string AnyName(std::optional<Role> role, Random* random) const;

  World* const world_;
  const Scenario& scenario_;
  Cluster* const cluster_;
  Random random_;
  bool calm_ = false;
};

}  // namespace packcast::sim
