// How processes of a cluster begin, end and fail.
#include <algorithm>

#include "tests/sim/cluster.h"

namespace packcast::sim {

void Cluster::KillProcess(Process* process) {
  process->alive = false;
  process->unfinished.clear();
  process->late.clear();
  world_->trace.Add(world_->now(), process->name, "KILLED", 0, [] { return std::string(); });
  network_.OnKilled(process);
  data_plane_.OnKilled(process);
  for (auto& [unit, gather] : around_.gathers) gather.OnKilled();
}

void Cluster::FreezeProcess(Process* process, bool asleep) {
  world_->Freeze(process, asleep);
  network_.OnFrozen(process);
}

void Cluster::Fault(const std::string& name, Duration how_long) {
  truth_.Fault(name, world_->now() + how_long);
}

void Cluster::Kill(const std::string& name) {
  if (MemberShell* shell = Living(name)) KillProcess(shell->process());
}

void Cluster::Start(const std::string& name) {
  for (const Post& post : posts_) {
    if (post.name != name) continue;
    Process* process = world_->Spawn(name, scenario_.drift);
    world_->trace.Add(world_->now(), name, "STARTED", 0, [] { return std::string(); });
    members_.emplace_back(&around_, process, ConfigOf(post, *process));
    network_.Dial(process);
  }
}

void Cluster::KillCoordinator() {
  if (CoordinatorShell* shell = coordinator()) KillProcess(shell->process());
}

void Cluster::StartCoordinator() {
  if (coordinator() == nullptr) BeginCoordinator();
}

void Cluster::BeginCoordinator() {
  CoordinatorConfig config;
  config.term = {1, world_->random.Next() | 1};
  if (world_->mutation() == Mutation::kNonceIgnored) config.term.nonce = 1;
  config.policy = scenario_.policy;
  config.commit = scenario_.commit;
  config.deadlines = scenario_.deadlines;
  Process* process = world_->Spawn("coordinator", scenario_.drift);
  world_->trace.Add(world_->now(), "coordinator", "STARTED", 0, [] { return std::string(); });
  owner_ = &coordinators_.emplace_back(&around_, process, config);
  around_.coordinator = process;
  network_.SetCoordinator(process);
}

void Cluster::EndTrainers(Process* earlier) {
  constexpr Duration kPatience = Seconds(2);
  const auto restart = [this](const std::string& name) {
    Fault(name, kRestart);
    world_->After(kRestart, [this, name] {
      if (Living(name) == nullptr) Start(name);
    });
  };
  if (earlier != nullptr) {
    world_->After(earlier, kPatience, [this, earlier, restart] {
      KillProcess(earlier);
      restart(earlier->name);
    });
    return;
  }
  world_->After(kPatience, [this, restart] {
    for (const Post& post : posts_) {
      if (post.unit != kTrainerUnit) continue;
      Kill(post.name);
      restart(post.name);
    }
    around_.gathers.at(kTrainerUnit).OnEnded();
  });
}

void Cluster::Zombie(const std::string& name) {
  MemberShell* shell = Living(name);
  if (shell == nullptr || shell->process()->frozen) return;
  FreezeProcess(shell->process(), false);
  Start(name);
}

Process* Cluster::Twin(const std::string& name) {
  MemberShell* shell = Living(name);
  if (shell == nullptr || shell->process()->frozen) return nullptr;
  network_.CutLife(shell->process());
  Start(name);
  return shell->process();
}

void Cluster::Freeze(const std::string& name, bool asleep) {
  Process* process = nullptr;
  if (name == "coordinator") {
    if (coordinator() != nullptr) process = coordinator()->process();
  } else if (MemberShell* shell = Living(name)) {
    process = shell->process();
  }
  if (process != nullptr && !process->frozen) FreezeProcess(process, asleep);
}

void Cluster::Thaw(const std::string& name) {
  const auto thaw = [&](Process* process) {
    if (!process->alive || !process->frozen || process->name != name) return;
    world_->Thaw(process);
    network_.OnThawed(process);
  };
  for (MemberShell& shell : members_) thaw(shell.process());
  for (CoordinatorShell& shell : coordinators_) thaw(shell.process());
}

void Cluster::SetRival(bool there) {
  has_rival_ = there;
  if (there && Living(kRivalUnit) == nullptr) Start(kRivalUnit);
  if (!there) Kill(kRivalUnit);
}

Process* Cluster::SplitBrain(const std::vector<std::string>& cut_off, bool one_way) {
  CoordinatorShell* first = coordinator();
  if (first == nullptr || first->process()->frozen || HasTwoCoordinators()) return nullptr;
  for (const std::string& name : cut_off) {
    network_.CutPair(name, first->process(), !one_way || world_->random.Chance(0.5), true);
  }
  if (cut_off.empty()) FreezeProcess(first->process(), false);
  BeginCoordinator();
  return first->process();
}

void Cluster::Rejoin(Process* coordinator) {
  network_.HealPairs(coordinator);
  if (!coordinator->alive || !coordinator->frozen) return;
  world_->Thaw(coordinator);
  network_.OnThawed(coordinator);
}

void Cluster::EndSplit(Process* first, bool ends_first) {
  if (!first->alive || coordinator() == nullptr || owner_->process() == first) return;
  if (ends_first) return KillProcess(first);
  KillProcess(owner_->process());
  owner_ = CoordinatorOf(first);
  around_.coordinator = first;
  network_.SetCoordinator(first);
}

void Cluster::Calm() {
  around_.unrest = false;
  for (CoordinatorShell& shell : coordinators_) {
    network_.HealPairs(shell.process());
    // Nobody but an operator ends one of two coordinators.
    if (shell.process()->alive && &shell != owner_) KillProcess(shell.process());
  }
  StartCoordinator();
  Thaw("coordinator");
  SetRival(false);
  for (const Post& post : posts_) Thaw(post.name);
  for (MemberShell& shell : members_) network_.HealLife(shell.process());
  for (const Post& post : posts_) {
    network_.Heal(post.name);
    for (const Post& other : posts_) data_plane_.Heal(post.name, other.name);
    if (Living(post.name) == nullptr && !IsRival(post)) Start(post.name);
  }
  for (MemberShell& shell : members_) shell.process()->slowness = 1;
}

}  // namespace packcast::sim
