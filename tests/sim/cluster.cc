#include "tests/sim/cluster.h"

#include <algorithm>
#include <utility>

#include "tests/sim/describe.h"

namespace packcast::sim {
namespace {

std::vector<Post> MakePosts(const Scenario& scenario) {
  std::vector<Post> posts;
  for (uint32_t rank = 0; rank < scenario.trainer_ranks; ++rank) {
    posts.push_back({"trainer-" + std::to_string(rank), Role::kTrainer, kTrainerUnit, rank,
                     scenario.trainer_ranks, rank});
  }
  uint32_t worker = 0;
  for (size_t replica = 0; replica < scenario.replica_sizes.size(); ++replica) {
    for (uint32_t rank = 0; rank < scenario.replica_sizes[replica]; ++rank) {
      posts.push_back({"worker-" + std::to_string(worker), Role::kWorker,
                       "replica-" + std::to_string(replica), rank, scenario.replica_sizes[replica],
                       worker});
      ++worker;
    }
  }
  posts.push_back({kRivalUnit, Role::kTrainer, kRivalUnit, 0, 1, 0});
  return posts;
}

}  // namespace

Cluster::Cluster(World* world, const Scenario& scenario, OnFinished finished, OnWanted wanted)
    : world_(world),
      scenario_(scenario),
      finished_(std::move(finished)),
      wanted_(std::move(wanted)),
      network_(world, this, {scenario.late_messages, scenario.Has(Fault::kReplay)}),
      data_plane_(world, scenario.host_transport),
      around_{world, &network_, &data_plane_, &truth_, &scenario_, this, {}, true, nullptr},
      posts_(MakePosts(scenario)) {
  around_.gathers.try_emplace(kTrainerUnit, world, &truth_, scenario.trainer_ranks, scenario.gather,
                              [this](Process* earlier) { EndTrainers(earlier); });
  around_.gathers.try_emplace(kRivalUnit, world, &truth_, 1u, scenario.gather, [](Process*) {});
  StartCoordinator();
  for (const Post& post : posts_) {
    if (!IsRival(post)) Start(post.name);
  }
}

MemberConfig Cluster::ConfigOf(const Post& post, const Process& process) {
  MemberConfig config;
  config.self = {post.name, process.incarnation};
  config.role = post.role;
  config.unit = post.unit;
  config.rank_in_unit = post.rank;
  config.unit_size = post.size;
  config.offer.transports = TransportsOf(scenario_, post.role, post.number);
  if (post.role == Role::kWorker) {
    config.offer.install_modes = {InstallMode::kStaged, InstallMode::kInPlace};
    config.offer.can_serve = (scenario_.can_serve >> post.number % 64 & 1) != 0;
    if (world_->random.Chance(0.2)) config.offer.buffer_bytes_max = 512;
  }
  return config;
}

MemberShell* Cluster::ShellOf(const Process* process) {
  for (auto shell = members_.rbegin(); shell != members_.rend(); ++shell) {
    if (shell->process() == process) return &*shell;
  }
  return nullptr;
}

MemberShell* Cluster::Living(const std::string& name) {
  for (auto shell = members_.rbegin(); shell != members_.rend(); ++shell) {
    if (shell->process()->alive && shell->process()->name == name) return &*shell;
  }
  return nullptr;
}

CoordinatorShell* Cluster::CoordinatorOf(const Process* process) {
  for (CoordinatorShell& shell : coordinators_) {
    if (shell.process() == process) return &shell;
  }
  return nullptr;
}

CoordinatorShell* Cluster::coordinator() {
  return owner_ != nullptr && owner_->process()->alive ? owner_ : nullptr;
}

bool Cluster::HasTwoCoordinators() const {
  return std::count_if(coordinators_.begin(), coordinators_.end(),
                       [](const auto& shell) { return shell.process()->alive; }) > 1;
}

std::vector<MemberShell*> Cluster::AllTrainers() {
  std::vector<MemberShell*> out;
  for (const Post& post : posts_) {
    if (post.role != Role::kTrainer) continue;
    if (MemberShell* shell = Living(post.name)) out.push_back(shell);
  }
  return out;
}

std::vector<MemberShell*> Cluster::Trainers() {
  std::vector<MemberShell*> out = AllTrainers();
  std::erase_if(out,
                [](MemberShell* shell) { return shell->member().config().unit != kTrainerUnit; });
  return out;
}

// ---- from the network ---------------------------------------------------------------------------

template <class Message>
bool Cluster::Echoes(const Message& message) {
  if (!around_.unrest || KeyOf(message) == nullptr) return false;
  return scenario_.echo > 0 && world_->random.Chance(scenario_.echo);
}

// As the real runtime does: a message for another life of the receiver is dropped here.
void Cluster::OnMemberMessage(Process* coordinator, Incarnation to, const MemberId& from,
                              MemberMessage message) {
  if (to != coordinator->incarnation) {
    ++world_->stats.stale_dropped;
    return;
  }
  const MemberShell* latest = Living(from.name);
  if (latest != nullptr && latest->process()->incarnation != from.incarnation) {
    ++world_->stats.zombies;
  }
  CoordinatorShell* shell = CoordinatorOf(coordinator);
  if (Echoes(message)) {
    world_->After(coordinator, EchoDelay(),
                  [shell, event = FromMember{from, message}] { shell->Feed(event); });
  }
  shell->Feed(FromMember{from, std::move(message)});
}

void Cluster::OnCoordinatorMessage(Process* member, Incarnation to, Incarnation from,
                                   CoordinatorMessage message) {
  MemberShell* shell = ShellOf(member);
  if (to != member->incarnation || !IsHeard(*shell, from, message)) {
    ++world_->stats.stale_dropped;
    return;
  }
  if (Echoes(message)) {
    world_->After(member, EchoDelay(), [shell, event = message] {
      if (*KeyOf(event) < shell->prepared()) shell->Feed(event);
    });
  }
  shell->Feed(std::move(message));
}

// As the real shell does; in half of the seeds what names a term gets through, which must do.
bool Cluster::IsHeard(const MemberShell& shell, Incarnation from,
                      const CoordinatorMessage& message) {
  if (from == shell.session()) return true;
  if (!scenario_.hears_others || KeyOf(message) == nullptr) return false;
  ++world_->stats.foreign;
  return true;
}

void Cluster::OnCoordinatorUp(Process* member, const Process* coordinator) {
  MemberShell* shell = ShellOf(member);
  shell->SetSession(coordinator->incarnation);
  shell->Feed(CoordinatorUp{});
}

void Cluster::OnCoordinatorLost(Process* member, const std::string& cause) {
  ShellOf(member)->Feed(CoordinatorLost{cause});
}

void Cluster::OnMemberLost(Process* coordinator, const MemberId& member, const Status& cause) {
  CoordinatorOf(coordinator)->Feed(MemberLost{member, cause});
}

void Cluster::OnMemberBack(Process* coordinator, const MemberId& member) {
  CoordinatorOf(coordinator)->Feed(MemberBack{member});
}

// ---- from the shells ----------------------------------------------------------------------------

void Cluster::OnSyncFinished(MemberShell* shell, uint64_t label, const Status& status) {
  finished_(shell, label, status);
}

void Cluster::OnSyncRequested(MemberShell* shell, uint64_t label) { wanted_(shell, label); }

void Cluster::OnStop(MemberShell* shell, const std::string&) {
  // Its process ends once the step is over.
  world_->After(shell->process(), Duration::zero(), [this, shell] {
    const std::string name = shell->process()->name;
    Fault(name, kRestart);
    KillProcess(shell->process());
    world_->After(kRestart, [this, name] {
      if (Living(name) == nullptr && (name != kRivalUnit || has_rival_)) Start(name);
    });
  });
}

void Cluster::OnEarlyRoot() {
  if (trouble_ != nullptr) trouble_->OnEarlyRoot();
}

void Cluster::OnEntered(MemberShell* shell) {
  if (trouble_ == nullptr || !around_.unrest) return;
  if (shell->member().config().unit == kRivalUnit) return;
  trouble_->OnEntered(shell->who(), shell->process()->name, StateOf(shell->member().phase()));
}

void Cluster::OnEntered(CoordinatorShell* shell) {
  if (trouble_ == nullptr || !around_.unrest || shell != owner_) return;
  trouble_->OnEntered(Who::kCoordinator, "coordinator", StateOf(shell->machine().epoch()));
}

std::optional<Tear> Cluster::TearOf(const MemberShell& shell, size_t effects) {
  const bool rival = shell.member().config().unit == kRivalUnit;
  if (trouble_ == nullptr || !around_.unrest || rival || effects == 0) return std::nullopt;
  return trouble_->TearOf(shell.who(), shell.process()->name, StateOf(shell.member().phase()),
                          effects);
}

std::optional<Tear> Cluster::TearOf(const CoordinatorShell& shell, size_t effects,
                                    size_t first_commit, size_t commits) {
  if (trouble_ == nullptr || !around_.unrest || effects == 0) return std::nullopt;
  const std::string& name = shell.process()->name;
  const size_t state = StateOf(shell.machine().epoch());
  if (commits > 0) {
    if (auto tear = trouble_->TearDecision(name, state, first_commit, commits)) return tear;
  }
  return trouble_->TearOf(Who::kCoordinator, name, state, effects);
}

// In the midst of a step: what it has not done yet is lost, or comes later.
void Cluster::OnTorn(Process* process, bool freezes) {
  const Duration while_ = world_->random.Between(Milliseconds(1), Seconds(3));
  Fault(process->name, while_);
  if (freezes) {
    FreezeProcess(process, false);
    // In half of the cases somebody has started another coordinator until then.
    const bool is_owner = owner_ != nullptr && process == owner_->process();
    if (is_owner && !HasTwoCoordinators() && world_->random.Chance(0.5)) BeginCoordinator();
    world_->After(while_, [this, process] {
      if (!process->alive || !process->frozen) return;
      world_->Thaw(process);
      network_.OnThawed(process);
    });
    return;
  }
  KillProcess(process);
  world_->After(while_, [this, name = process->name] {
    if (name == "coordinator") return StartCoordinator();
    if (Living(name) == nullptr) Start(name);
  });
}

void Cluster::OnCoordinatorStop(Process* coordinator) {
  world_->After(coordinator, Duration::zero(), [this, coordinator] {
    KillProcess(coordinator);
    world_->After(kRestart, [this] { StartCoordinator(); });
  });
}

}  // namespace packcast::sim
