#include "tests/sim/nemesis.h"

#include <algorithm>

namespace packcast::sim {

void Nemesis::Begin() {
  for (uint32_t k = 0; k < scenario_.faults; ++k) {
    StrikeAt(random_.Between(Duration::zero(), scenario_.unrest));
  }
}

void Nemesis::OnCall() {
  if (random_.Chance(scenario_.strike)) {
    StrikeAt(random_.Between(Duration::zero(), Milliseconds(25)));
  }
}

void Nemesis::OnEarlyRoot() {
  if (!calm_ && random_.Chance(scenario_.strike_early)) {
    StrikeAt(random_.Between(Duration::zero(), Milliseconds(1)));
  }
}

void Nemesis::OnCatchUp() {
  if (calm_ || !random_.Chance(scenario_.strike_catch_up)) return;
  StrikeAt(random_.Between(Duration::zero(), Milliseconds(15)));
}

namespace {

// States that chance alone would seldom strike.
bool IsBrief(Who who, size_t state) {
  if (who == Who::kCoordinator) {
    return CatchesUp(state) && state > StateOfCatchUp(EpochPhase::kJoining);
  }
  const auto phase = static_cast<MemberPhase>(state);
  if (who == Who::kProvider && phase >= MemberPhase::kStreaming) return true;
  return phase == MemberPhase::kBroken || phase == MemberPhase::kHalting ||
         phase == MemberPhase::kHalted;
}

}  // namespace

void Nemesis::OnEntered(Who who, const std::string& name, size_t state) {
  if (calm_ || state == 0) return;  // idle, or no epoch
  double chance = IsBrief(who, state) ? scenario_.strike_brief : scenario_.strike_state;
  if (who == Who::kProvider && !IsBrief(who, state)) chance *= 3;  // there are few of them
  const bool rarest = who == Who::kProvider && state == StateOf(MemberPhase::kBroken);
  if (rarest && chance > 0) chance = 1;
  if (!random_.Chance(chance)) return;
  const std::optional<Plan> plan = AnyPlan(who);
  if (!plan) return;
  world_->After(random_.Between(Duration::zero(), Microseconds(100)), [this, plan, name] {
    if (!calm_) StrikeName(*plan, name);
  });
}

std::optional<Tear> Nemesis::TearOf(Who who, const std::string& name, size_t state,
                                    size_t effects) {
  constexpr double kMoreOften = 20;
  const bool waits = who == Who::kCoordinator && state == StateOf(EpochPhase::kWaitReplicas);
  const double chance = scenario_.tear * (waits || IsBrief(who, state) ? kMoreOften : 1);
  if (calm_ || !random_.Chance(chance)) return std::nullopt;
  const Tear tear{random_.Below(effects + 1), random_.Chance(0.4)};
  if (!world_->MayInject(Fault::kTorn, name)) return std::nullopt;
  world_->Injected(Fault::kTorn, who, state);
  return tear;
}

std::optional<Tear> Nemesis::TearDecision(const std::string& name, size_t state, size_t first,
                                          size_t commits) {
  if (calm_ || !random_.Chance(scenario_.tear_decision)) return std::nullopt;
  const size_t where = random_.Below(3);
  size_t after = where == 0 ? first : first + commits;
  if (where == 1 && commits > 1) after = first + 1 + random_.Below(commits - 1);
  const Tear tear{after, random_.Chance(0.5)};
  if (!world_->MayInject(Fault::kTorn, name)) return std::nullopt;
  ++world_->stats.decisions_torn[where];
  world_->Injected(Fault::kTorn, Who::kCoordinator, state);
  return tear;
}

std::optional<Nemesis::Plan> Nemesis::AnyPlan(std::optional<Who> who) {
  std::vector<Fault> kinds = scenario_.kinds;
  std::erase_if(kinds, [&](Fault fault) { return who && !Befalls(fault, *who); });
  if (kinds.empty()) return std::nullopt;
  return Plan{kinds[random_.Below(kinds.size())], random_.Next()};
}

void Nemesis::StrikeAt(Duration at) {
  const std::optional<Plan> plan = AnyPlan();
  if (!plan) return;
  world_->After(at, [this, plan] { Strike(*plan); });
  // Trouble seldom comes alone.
  if (!random_.Chance(0.3)) return;
  const std::optional<Plan> other = AnyPlan();
  world_->After(at + random_.Between(Duration::zero(), Milliseconds(30)),
                [this, other] { Strike(*other); });
}

// Whoever it may befall.
void Nemesis::Strike(const Plan& plan) {
  if (calm_) return;
  Random random(plan.seed);
  const bool members = Befalls(plan.fault, Who::kWorker) || Befalls(plan.fault, Who::kTrainer);
  const bool coordinator = Befalls(plan.fault, Who::kCoordinator);
  if (!members || (coordinator && random.Chance(0.15))) return StrikeName(plan, "coordinator");
  std::optional<Role> role;
  if (!Befalls(plan.fault, Who::kTrainer)) role = Role::kWorker;
  if (!Befalls(plan.fault, Who::kWorker)) role = Role::kTrainer;
  StrikeName(plan, AnyName(role, &random));
}

void Nemesis::StrikeName(const Plan& plan, const std::string& name) {
  if (plan.fault == Fault::kTorn || !world_->MayInject(plan.fault, name)) return;
  Random random(plan.seed + 1);
  const Duration while_ = random.Chance(0.4) ? random.Between(Milliseconds(1), Milliseconds(500))
                                             : random.Between(Milliseconds(500), Seconds(6));
  Count(plan.fault, name);
  cluster_->Fault(name, while_);
  Do(plan.fault, name, while_, &random);
}

}  // namespace packcast::sim
