#include "tests/runtime/sim/observer.h"

#include <utility>

#include "runtime/actor/link.h"

namespace packcast::rtsim {
namespace {

bool IsSame(const ActorRef& a, const ActorRef& b) {
  return a == b && a.state()->link == b.state()->link;
}

}  // namespace

void Observer::OnTimer(Context& context, TimerId) {
  World& world = life_->world();
  for (const std::string& host : world.scenario.hosts) {
    for (const ServantPlan& plan : world.scenario.servants) Seek(context, host, plan.name);
  }
  context.SetTimer(context.now() + world.random.Between(Milliseconds(50), Milliseconds(300)));
}

void Observer::Seek(Context& context, const std::string& host, const std::string& actor) {
  Slot* const slot = &slots_[host + "/" + actor];
  const bool is_watched = slot->watch != nullptr && slot->watch->state != PeerEvent::Kind::kDied &&
                          slot->watch->state != PeerEvent::Kind::kLeft;
  if (is_watched || std::exchange(slot->is_connecting, true)) return;
  context.Await<ActorRef>(
      life_->runtime().ConnectAsync(life_->world().EndpointOf(host), actor, Seconds(1)),
      [this, slot](Context& later, const StatusOr<ActorRef>& ref) {
        slot->is_connecting = false;
        if (SaysReplaced(ref.status().message())) life_->OnReplaced();
        if (ref.ok()) Found(later, *ref, slot);
      });
}

void Observer::Found(Context& context, const ActorRef& ref, Slot* slot) {
  for (Watch* watch : watches_) {
    if (IsSame(watch->ref, ref)) slot->watch = watch;
  }
  if (slot->watch != nullptr && IsSame(slot->watch->ref, ref)) {
    life_->world().watches.Renew(slot->watch);
  } else {
    slot->watch = life_->world().watches.New(ref);
    watches_.push_back(slot->watch);
  }
  context.Monitor(ref);
  // It is told nothing twice, but for what has ended by now.
  if (!life_->world().random.Chance(0.3)) return;
  life_->world().watches.Renew(slot->watch);
  context.Monitor(ref);
}

void Observer::OnPeer(Context&, const PeerEvent& event) {
  if (SaysReplaced(event.cause)) life_->OnReplaced();
  for (Watch* watch : watches_) {
    if (IsSame(watch->ref, event.ref)) return life_->world().watches.Told(watch, event);
  }
  life_->world().ledger.Violated("told of " + event.ref.ToString() + ", which nobody monitors");
}

}  // namespace packcast::rtsim
