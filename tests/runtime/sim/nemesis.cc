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
  switch (random.Below(6)) {
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
    default: return Freeze(a);
  }
}

void Nemesis::Kill(const std::string& host) {
  const std::shared_ptr<Life> life = world_->lives.at(host);
  if (life->process()->is_frozen) return;
  Note("kill " + host);
  life->End(true);
  killed_.push_back(life);
  // Another is started in its place.
  Life::Begin(world_, host);
}

void Nemesis::Freeze(const std::string& host) {
  const std::shared_ptr<Life> life = world_->lives.at(host);
  if (life->process()->is_frozen) return;
  const Duration most = world_->random.Chance(0.5) ? Milliseconds(200) : Seconds(4);
  const Duration duration = world_->random.Between(Milliseconds(1), most);
  Note("freeze " + host + " for " + std::to_string(ToMilliseconds(duration)) + " ms");
  world_->kernel.Freeze(life->process());
  For(duration, [this, life] {
    if (!life->process()->is_frozen) return;
    world_->kernel.Thaw(life->process());
    world_->network.OnThaw(life->process());
  });
}

void Nemesis::MakePeace() {
  for (const auto& [host, life] : world_->lives) {
    if (!life->process()->is_frozen) continue;
    world_->kernel.Thaw(life->process());
    world_->network.OnThaw(life->process());
  }
  world_->network.Heal();
}

void Nemesis::Join() {
  for (const std::shared_ptr<Life>& life : killed_) life->Join();
}

}  // namespace packcast::rtsim
