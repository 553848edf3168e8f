#include "tests/sim/cluster.h"

#include <utility>

#include "tests/sim/describe.h"

namespace packcast::sim {
namespace {

// A real process that ends by itself is started again by whoever watches over it.
constexpr Duration kRestart = Milliseconds(200);

std::vector<Post> MakePosts(const Scenario& scenario) {
  std::vector<Post> posts;
  for (uint32_t rank = 0; rank < scenario.trainer_ranks; ++rank) {
    posts.push_back({"trainer-" + std::to_string(rank), Role::kTrainer, "trainer", rank,
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
  return posts;
}

}  // namespace

Cluster::Cluster(World* world, const Scenario& scenario, OnFinished finished, OnWanted wanted)
    : world_(world),
      scenario_(scenario),
      finished_(std::move(finished)),
      wanted_(std::move(wanted)),
      network_(world, this, scenario.late_messages),
      data_plane_(world, scenario.host_transport),
      around_{world, &network_, &data_plane_, &truth_, &scenario_, this},
      posts_(MakePosts(scenario)) {
  StartCoordinator();
  for (const Post& post : posts_) Start(post.name);
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
  if (coordinators_.empty() || !coordinators_.back().process()->alive) return nullptr;
  return &coordinators_.back();
}

std::vector<MemberShell*> Cluster::Trainers() {
  std::vector<MemberShell*> out;
  for (const Post& post : posts_) {
    if (post.role != Role::kTrainer) continue;
    if (MemberShell* shell = Living(post.name)) out.push_back(shell);
  }
  return out;
}

// ---- processes ----------------------------------------------------------------------------------

void Cluster::KillProcess(Process* process) {
  process->alive = false;
  process->late.clear();
  world_->trace.Add(world_->now(), process->name, "KILLED", 0, [] { return std::string(); });
  network_.OnKilled(process);
  data_plane_.OnKilled(process);
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
    Process* process = world_->Spawn(name);
    world_->trace.Add(world_->now(), name, "STARTED", 0, [] { return std::string(); });
    members_.emplace_back(&around_, process, ConfigOf(post, *process));
    network_.Dial(process);
  }
}

void Cluster::KillCoordinator() {
  if (CoordinatorShell* shell = coordinator()) KillProcess(shell->process());
}

void Cluster::StartCoordinator() {
  if (coordinator() != nullptr) return;
  CoordinatorConfig config;
  config.term = {1, world_->random.Next() | 1};
  config.policy = scenario_.policy;
  config.deadlines = scenario_.deadlines;
  Process* process = world_->Spawn("coordinator");
  world_->trace.Add(world_->now(), "coordinator", "STARTED", 0, [] { return std::string(); });
  coordinators_.emplace_back(&around_, process, config);
  network_.SetCoordinator(process);
}

void Cluster::Twin(const std::string& name) {
  MemberShell* shell = Living(name);
  if (shell == nullptr || shell->process()->frozen) return;
  world_->Freeze(shell->process());
  network_.OnFrozen(shell->process());
  Start(name);
}

void Cluster::Freeze(const std::string& name) {
  Process* process = nullptr;
  if (name == "coordinator") {
    if (coordinator() != nullptr) process = coordinator()->process();
  } else if (MemberShell* shell = Living(name)) {
    process = shell->process();
  }
  if (process == nullptr || process->frozen) return;
  world_->Freeze(process);
  network_.OnFrozen(process);
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

void Cluster::Calm() {
  around_.unrest = false;
  StartCoordinator();
  Thaw("coordinator");
  for (const Post& post : posts_) {
    network_.Heal(post.name);
    Thaw(post.name);
    if (Living(post.name) == nullptr) Start(post.name);
  }
  for (MemberShell& shell : members_) shell.process()->slowness = 1;
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
  CoordinatorShell* shell = CoordinatorOf(coordinator);
  if (Echoes(message)) {
    world_->After(coordinator, EchoDelay(),
                  [shell, event = FromMember{from, message}] { shell->Feed(event); });
  }
  shell->Feed(FromMember{from, std::move(message)});
}

void Cluster::OnCoordinatorMessage(Process* member, Incarnation to, Incarnation,
                                   CoordinatorMessage message) {
  if (to != member->incarnation) {
    ++world_->stats.stale_dropped;
    return;
  }
  MemberShell* shell = ShellOf(member);
  if (Echoes(message)) {
    world_->After(member, EchoDelay(), [shell, event = message] {
      if (*KeyOf(event) < shell->prepared()) shell->Feed(event);
    });
  }
  shell->Feed(std::move(message));
}

void Cluster::OnCoordinatorUp(Process* member) { ShellOf(member)->Feed(CoordinatorUp{}); }

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
      if (Living(name) == nullptr) Start(name);
    });
  });
}

void Cluster::OnEarlyRoot() {
  if (on_early_root_) on_early_root_();
}

void Cluster::OnBriefState(MemberShell* shell) {
  if (on_brief_state_) on_brief_state_(shell->process()->name);
}

void Cluster::OnCoordinatorStop(Process* coordinator) {
  world_->After(coordinator, Duration::zero(), [this, coordinator] {
    KillProcess(coordinator);
    world_->After(kRestart, [this] { StartCoordinator(); });
  });
}

void Cluster::OnCommitted(const Value& report) {
  const CoordinatorMachine& machine = coordinators_.back().machine();
  const std::string& version = *report.Find("version")->AsString();
  std::map<std::string, uint32_t> listed;
  for (const Value& worker : *report.Find("workers")->AsArray()) {
    const std::string& name = *worker.Find("name")->AsString();
    ++listed[*worker.Find("replica")->AsString()];
    if (worker.Find("version")->is_nil()) {
      world_->Violate("S2: committed without an answer of " + name);
    }
    const auto known = machine.membership().all().find(name);
    if (known == machine.membership().all().end()) {
      return world_->Violate("S2: " + name + " is listed and no member");
    }
    for (const MemberShell& shell : members_) {
      const MemberMachine& member = shell.member();
      if (!shell.process()->alive || member.config().self != known->second.id) continue;
      if (ToString(member.serving()) != version || !member.in_service()) {
        world_->Violate("S2: " + name + " is listed and does not serve " + version);
      }
    }
  }
  for (const Post& post : posts_) {
    if (listed.contains(post.unit) && listed[post.unit] != post.size) {
      world_->Violate("S2: a part of " + post.unit + " is listed");
    }
  }
}

// ---- questions ----------------------------------------------------------------------------------

std::string Cluster::Unrest() {
  CoordinatorShell* shell = coordinator();
  if (shell == nullptr) return "no coordinator";
  if (shell->machine().epoch()) return "an epoch runs";
  for (const MemberShell& member : members_) {
    if (!member.process()->alive) continue;
    const std::string& name = member.process()->name;
    if (!member.member().joined()) return name + " has not joined";
    if (member.member().phase() != MemberPhase::kIdle) {
      return name + " is " + std::string(MemberPhaseName(member.member().phase()));
    }
    if (member.trainer() != nullptr && member.trainer()->open_calls() > 0) {
      return name + " has open calls";
    }
    if (!shell->machine().membership().Has(member.member().config().self)) {
      return name + " is no member, and does not know";
    }
  }
  for (const Post& post : posts_) {
    if (Living(post.name) == nullptr) return post.name + " is down";
  }
  return "";
}

std::string Cluster::Behind() {
  const CoordinatorMachine& machine = coordinator()->machine();
  if (!machine.last_committed()) return "nothing was committed";
  for (const Post& post : posts_) {
    if (post.role != Role::kWorker || machine.membership().drained().contains(post.unit)) continue;
    const MemberShell* shell = Living(post.name);
    if (shell->member().serving() != *machine.last_committed()) {
      return post.name + " serves " + ToString(shell->member().serving()) + ", not " +
             ToString(*machine.last_committed());
    }
    if (!shell->member().in_service() || !shell->engine_runs()) {
      return post.name + " is out of service";
    }
  }
  return "";
}

}  // namespace packcast::sim
