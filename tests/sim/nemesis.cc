#include "tests/sim/nemesis.h"

namespace packcast::sim {

void Nemesis::Begin() {
  for (uint32_t k = 0; k < scenario_.faults; ++k) {
    StrikeAt(world_->random.Between(Duration::zero(), scenario_.unrest));
  }
}

void Nemesis::OnCall() {
  if (scenario_.kinds.empty() || !world_->random.Chance(scenario_.strike)) return;
  StrikeAt(world_->random.Between(Duration::zero(), Milliseconds(25)));
}

void Nemesis::OnEarlyRoot() {
  if (calm_ || scenario_.kinds.empty() || !world_->random.Chance(scenario_.strike_early)) return;
  StrikeAt(world_->random.Between(Duration::zero(), Milliseconds(1)));
}

void Nemesis::OnCatchUp() {
  if (calm_ || scenario_.kinds.empty() || !world_->random.Chance(0.4)) return;
  StrikeAt(world_->random.Between(Duration::zero(), Milliseconds(15)));
}

void Nemesis::OnBriefState(const std::string& name) {
  if (calm_ || scenario_.kinds.empty() || !world_->random.Chance(scenario_.strike_brief)) return;
  const Fault fault = AnyFault();
  world_->After(world_->random.Between(Duration::zero(), Microseconds(100)), [this, fault, name] {
    const MemberShell* shell = cluster_->Living(name);
    if (calm_ || shell == nullptr || !Befalls(fault, shell->who())) return;
    StrikeName(fault, name);
  });
}

void Nemesis::StrikeAt(Duration at) {
  const Fault fault = AnyFault();
  world_->After(at, [this, fault] { Strike(fault); });
  // Trouble seldom comes alone.
  if (!world_->random.Chance(0.3)) return;
  const Fault other = AnyFault();
  world_->After(at + world_->random.Between(Duration::zero(), Milliseconds(30)),
                [this, other] { Strike(other); });
}

std::string Nemesis::Victim(bool workers_only) {
  const auto& posts = cluster_->posts();
  while (true) {
    const Post& post = posts[world_->random.Below(posts.size())];
    if (!workers_only || post.role == Role::kWorker) return post.name;
  }
}

void Nemesis::Strike(Fault fault) {
  if (calm_) return;
  switch (fault) {
    case Fault::kKillWorker: return StrikeName(fault, Victim(true));
    case Fault::kKillTrainer: return StrikeName(fault, "trainer-0");
    case Fault::kKillCoordinator: return StrikeName(fault, "coordinator");
    case Fault::kFreeze:
      return StrikeName(fault, world_->random.Chance(0.15) ? "coordinator" : Victim(false));
    case Fault::kZombie:
    case Fault::kPartition:
    case Fault::kOneWay:
    case Fault::kFlap:
    case Fault::kSlow: return StrikeName(fault, Victim(false));
    case Fault::kRefuse:
    case Fault::kJoinFails:
    case Fault::kStreamFails:
    case Fault::kInstallFails:
    case Fault::kWedge: return;  // local work's own trouble: MemberShell
  }
}

// Who is down already is not struck in any state.
void Nemesis::Count(Fault fault, const std::string& name) {
  if (const MemberShell* shell = cluster_->Living(name)) {
    world_->Injected(fault, shell->who(), StateOf(shell->member().phase()));
  } else if (const CoordinatorShell* coordinator = cluster_->coordinator();
             coordinator != nullptr && name == "coordinator") {
    world_->Injected(fault, Who::kCoordinator, StateOf(coordinator->machine().epoch()));
  } else {
    world_->Injected(fault);
  }
}

void Nemesis::StrikeName(Fault fault, const std::string& name) {
  Count(fault, name);
  const Duration while_ = world_->random.Chance(0.4)
                              ? world_->random.Between(Milliseconds(1), Milliseconds(500))
                              : world_->random.Between(Milliseconds(500), Seconds(6));
  cluster_->Fault(name, while_);
  const auto later = [&](std::function<void()> what) { world_->After(while_, std::move(what)); };
  switch (fault) {
    case Fault::kKillWorker:
    case Fault::kKillTrainer:
      cluster_->Kill(name);
      return later([this, name] {
        if (cluster_->Living(name) == nullptr) cluster_->Start(name);
      });
    case Fault::kKillCoordinator:
      cluster_->KillCoordinator();
      return later([this] { cluster_->StartCoordinator(); });
    case Fault::kFreeze:
      cluster_->Freeze(name);
      return later([this, name] { cluster_->Thaw(name); });
    case Fault::kZombie: cluster_->Twin(name); return later([this, name] { cluster_->Thaw(name); });
    case Fault::kPartition:
      cluster_->network().Cut(name, true, true);
      return later([this, name] { cluster_->network().Heal(name); });
    case Fault::kOneWay: {
      const bool down = world_->random.Chance(0.5);
      cluster_->network().Cut(name, down, !down);
      return later([this, name] { cluster_->network().Heal(name); });
    }
    case Fault::kFlap: return cluster_->network().Flap(name);
    case Fault::kSlow:
      if (MemberShell* shell = cluster_->Living(name)) {
        shell->process()->slowness = world_->random.Between(5, 200);
      }
      return later([this, name] {
        if (MemberShell* shell = cluster_->Living(name)) shell->process()->slowness = 1;
      });
    case Fault::kRefuse:
    case Fault::kJoinFails:
    case Fault::kStreamFails:
    case Fault::kInstallFails:
    case Fault::kWedge: return;
  }
}

}  // namespace packcast::sim
