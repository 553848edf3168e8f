#include "tests/runtime/sim/nemesis.h"

#include <utility>

namespace packcast::rtsim {

void Nemesis::Note(const std::string& what) {
  world_->kernel.Note("nemesis", "FAULT", 0, [&] { return what; });
}

std::string Nemesis::AnyHost() {
  const std::vector<std::string>& hosts = world_->scenario.hosts;
  return hosts[world_->random.Below(hosts.size())];
}

std::string Nemesis::OtherHost(const std::string& than) {
  std::string host = than;
  while (host == than) host = AnyHost();
  return host;
}

void Nemesis::For(Duration duration, std::function<void()> end) {
  world_->kernel.At(world_->kernel.now() + duration, std::move(end));
}

void Nemesis::RunFor(Duration duration) {
  Kernel& kernel = world_->kernel;
  const Time end = kernel.now() + duration;
  if (!world_->scenario.has_faults) return kernel.Sleep(duration);
  world_->watches.Disturbed();
  while (kernel.now() < end) {
    kernel.Sleep(world_->random.Between(Milliseconds(1), Milliseconds(400)));
    Strike();
  }
}

void Nemesis::Strike() {
  Random& random = world_->random;
  Network& network = world_->network;
  const std::string a = AnyHost();
  const std::string b = OtherHost(a);
  // Some are over before anybody notices, some only after the other side was given up.
  const Duration most = random.Chance(0.5) ? Milliseconds(100) : Seconds(3);
  const Duration duration = random.Between(Milliseconds(1), most);
  switch (random.Below(8)) {
    case 0: Note("cut " + a + " - " + b); return network.Cut(a, b);
    case 1:
      Note("stall " + a + " > " + b);
      network.Stall(a, b, true);
      return For(duration, [&network, a, b] { network.Stall(a, b, false); });
    case 2:
      Note("stall " + a + " - " + b);
      network.Stall(a, b, true);
      network.Stall(b, a, true);
      return For(duration, [&network, a, b] {
        network.Stall(a, b, false);
        network.Stall(b, a, false);
      });
    case 3:
      Note("refuse at " + a);
      network.Refuse(a, true);
      network.Cut(a, b);
      return For(duration, [&network, a] { network.Refuse(a, false); });
    case 4: return Kill(a);
    case 5: return Restart(a);
    case 6: return Replace(a);
    default: return Freeze(a, random.Between(Milliseconds(1), Seconds(random.Chance(0.5) ? 1 : 4)));
  }
}

void Nemesis::Kill(const std::string& host) {
  const std::shared_ptr<Life> life = world_->lives.at(host);
  if (life->process()->is_frozen || life->is_over()) return;
  Note("kill " + host);
  life->End(true);
  past_.push_back(life);
  // Another is started in its place.
  Life::Begin(world_, host, world_->random.Chance(0.5));
}

// In order; the next one begins when it has ended.
void Nemesis::Restart(const std::string& host) {
  const std::shared_ptr<Life> life = world_->lives.at(host);
  if (life->process()->is_frozen || life->is_over()) return;
  Note("restart " + host);
  past_.push_back(life);
  world_->Supervise(life);
}

// Somebody takes a frozen one for dead and starts another of its name. It thaws, is told so, and
// ends.
void Nemesis::Replace(const std::string& host) {
  const std::shared_ptr<Life> life = world_->lives.at(host);
  if (life->process()->is_frozen || life->is_over()) return;
  Freeze(host, world_->random.Between(Milliseconds(1), Seconds(3)));
  Note("replace " + host);
  world_->twins.insert(host);
  past_.push_back(life);
  Life::Begin(world_, host, false);
  const Duration linger = world_->random.Between(Milliseconds(1), Seconds(2));
  world_->supervisors.push_back(world_->kernel.Start([this, life, linger] {
    while (life->process()->is_frozen) world_->kernel.Sleep(Milliseconds(10));
    world_->kernel.Sleep(linger);
    life->End(false);
  }));
}

void Nemesis::Freeze(const std::string& host, Duration duration) {
  const std::shared_ptr<Life> life = world_->lives.at(host);
  if (life->process()->is_frozen) return;
  Note("freeze " + host + " for " + std::to_string(ToMilliseconds(duration)) + " ms");
  world_->kernel.Freeze(life->process());
  For(duration, [this, life] { Thaw(life); });
}

void Nemesis::Thaw(const std::shared_ptr<Life>& life) {
  if (!life->process()->is_frozen) return;
  world_->kernel.Thaw(life->process());
  world_->network.OnThaw(life->process());
}

void Nemesis::MakePeace() {
  for (const auto& [host, life] : world_->lives) Thaw(life);
  for (const std::shared_ptr<Life>& life : past_) Thaw(life);
  world_->network.Heal();
  world_->JoinSupervised();
}

void Nemesis::Join() {
  for (const std::shared_ptr<Life>& life : past_) life->Join();
}

}  // namespace packcast::rtsim
