// What each fault does, and how it ends.
#include <algorithm>
#include <utility>

#include "tests/sim/nemesis.h"

namespace packcast::sim {

std::vector<std::string> Nemesis::Names(std::optional<Role> role) const {
  std::vector<std::string> names;
  for (const Post& post : cluster_->posts()) {
    if (post.unit != kRivalUnit && (!role || post.role == *role)) names.push_back(post.name);
  }
  return names;
}

std::string Nemesis::AnyName(std::optional<Role> role, Random* random) const {
  const std::vector<std::string> names = Names(role);
  return names[random->Below(names.size())];
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

void Nemesis::Do(Fault fault, const std::string& name, Duration while_, Random* random) {
  const auto later = [&](std::function<void()> what) { world_->After(while_, std::move(what)); };
  Network& network = cluster_->network();
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
    case Fault::kSleep:
      cluster_->Freeze(name, fault == Fault::kSleep);
      return later([this, name] { cluster_->Thaw(name); });
    case Fault::kZombie:
      cluster_->Zombie(name);
      return later([this, name] { cluster_->Thaw(name); });
    case Fault::kTwin: {
      const Process* first = cluster_->Twin(name);
      return later([this, first] { cluster_->network().HealLife(first); });
    }
    case Fault::kPartition:
      network.Cut(name, true, true);
      return later([this, name] { cluster_->network().Heal(name); });
    case Fault::kOneWay: {
      const bool down = random->Chance(0.5);
      network.Cut(name, down, !down);
      return later([this, name] { cluster_->network().Heal(name); });
    }
    case Fault::kSwizzle: return Swizzle(while_, random);
    case Fault::kBulkCut: return CutBulk(name, while_, random);
    case Fault::kFlap: return network.Flap(name);
    case Fault::kReplay: return network.Replay(name);
    case Fault::kSlow:
      if (MemberShell* shell = cluster_->Living(name)) {
        shell->process()->slowness = random->Between(5, 200);
      }
      return later([this, name] {
        if (MemberShell* shell = cluster_->Living(name)) shell->process()->slowness = 1;
      });
    case Fault::kSplitBrain: return SplitBrain(while_, random);
    case Fault::kRival: return BringRival(while_, random);
    case Fault::kTorn:
    case Fault::kRefuse:
    case Fault::kJoinFails:
    case Fault::kStreamFails:
    case Fault::kInstallFails:
    case Fault::kWedge: return;  // within a step, or of local work
  }
}

// The links of some members are cut one after another, one way or both, and heal in another order.
void Nemesis::Swizzle(Duration while_, Random* random) {
  std::vector<std::string> names = Names(std::nullopt);
  const auto shuffle = [&] {
    for (size_t k = names.size(); k > 1; --k) std::swap(names[k - 1], names[random->Below(k)]);
  };
  shuffle();
  names.resize(static_cast<size_t>(random->Between(1, static_cast<int64_t>(names.size()))));
  const Duration each = Milliseconds(100);
  Duration at{};
  for (const std::string& name : names) {
    const uint64_t ways = random->Below(3);
    at += random->Between(Duration::zero(), each);
    cluster_->Fault(name, at + while_ + each * static_cast<int64_t>(names.size()));
    world_->After(at, [this, name, ways] {
      if (calm_) return;
      if (const MemberShell* shell = cluster_->Living(name)) {
        world_->stats.coverage.Met(Fault::kSwizzle, shell->who(), StateOf(shell->member().phase()));
      }
      cluster_->network().Cut(name, ways != 1, ways != 0);
    });
  }
  shuffle();
  for (const std::string& name : names) {
    at += random->Between(Duration::zero(), each);
    world_->After(at + while_, [this, name] { cluster_->network().Heal(name); });
  }
}

void Nemesis::SplitBrain(Duration while_, Random* random) {
  std::vector<std::string> cut_off;
  const double share = random->Chance(0.3) ? 1 : random->Chance(0.5) ? 0.5 : 0;
  for (const std::string& name : Names(std::nullopt)) {
    if (random->Chance(share)) cut_off.push_back(name);
  }
  Process* first = cluster_->SplitBrain(cut_off, random->Chance(0.3));
  if (first == nullptr) return;
  const Duration beside = random->Between(Milliseconds(1), Seconds(4));
  const bool ends_first = random->Chance(0.7);
  cluster_->Fault("coordinator", while_ + beside);
  world_->After(while_, [this, first] { cluster_->Rejoin(first); });
  world_->After(while_ + beside, [this, first, ends_first] {
    cluster_->Fault("coordinator", Duration::zero());
    cluster_->EndSplit(first, ends_first);
  });
}

void Nemesis::CutBulk(const std::string& name, Duration while_, Random* random) {
  const std::string other = AnyName(std::nullopt, random);
  if (other == name) return;
  cluster_->Fault(other, while_);
  cluster_->data_plane().Cut(name, other);
  world_->After(while_, [this, name, other] { cluster_->data_plane().Heal(name, other); });
}

// It is refused as long as a rank of the first unit is there.
void Nemesis::BringRival(Duration while_, Random* random) {
  cluster_->Fault(kRivalUnit, while_);
  cluster_->SetRival(true);
  const bool takes_over = random->Chance(0.6);
  for (const std::string& name : Names(Role::kTrainer)) {
    if (!takes_over) break;
    cluster_->Fault(name, while_);
    cluster_->Kill(name);
    world_->After(while_ / 2, [this, name] {
      if (cluster_->Living(name) == nullptr) cluster_->Start(name);
    });
  }
  world_->After(while_, [this] { cluster_->SetRival(false); });
}

}  // namespace packcast::sim
