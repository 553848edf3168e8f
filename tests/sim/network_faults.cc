// What each end of a connection notices, and which are cut.
#include <algorithm>
#include <utility>

#include "tests/sim/network.h"

namespace packcast::sim {
namespace {

MemberId IdOf(const Process& process) { return {process.name, process.incarnation}; }

}  // namespace

void Network::MemberNotices(Link* link, Duration after, const std::string& cause) {
  world_->After(link->member, after, [this, link, cause] {
    if (link->left || !std::exchange(link->member_sees, false)) return;
    user_->OnCoordinatorLost(link->member, cause);
    if (!link->coordinator->alive) {
      link->closed = true;
      Dial(link->member);
    } else if (link->coordinator != coordinator_) {
      Leave(link);
    }
  });
}

// Its connection attempts reach the coordinator that has the address now. What it had sent may
// still be read at the other end, and what comes from there find its process.
void Network::Leave(Link* link) {
  if (link->left || !link->member->alive) return;
  link->left = true;
  Dial(link->member);
  if (link->up.cut || !link->coordinator_sees) {
    WatchSilence(link, false);
  } else {
    CoordinatorNotices(link, world_->random.Between(Microseconds(400), Milliseconds(5)),
                       Unavailable("closed its connection"));
  }
}

void Network::CoordinatorNotices(Link* link, Duration after, const Status& cause) {
  world_->After(link->coordinator, after, [this, link, cause] {
    if (link->closed || !std::exchange(link->coordinator_sees, false)) return;
    if (!link->member->alive) link->closed = true;
    user_->OnMemberLost(link->coordinator, IdOf(*link->member), cause);
  });
}

void Network::MemberSeesAgain(Link* link) {
  if (link->member_sees || link->closed || link->left || Silent(*link, true)) return;
  link->member_sees = true;
  user_->OnCoordinatorUp(link->member, link->coordinator);
}

void Network::CoordinatorSeesAgain(Link* link) {
  if (link->coordinator_sees || link->closed || Silent(*link, false)) return;
  link->coordinator_sees = true;
  user_->OnMemberBack(link->coordinator, IdOf(*link->member));
}

void Network::SeeAgain(Link* link, Duration low, Duration high) {
  world_->After(link->member, world_->random.Between(low, high),
                [this, link] { MemberSeesAgain(link); });
  world_->After(link->coordinator, world_->random.Between(low, high),
                [this, link] { CoordinatorSeesAgain(link); });
}

bool Network::Silent(const Link& link, bool at_member) const {
  if (at_member) return link.down.cut || link.coordinator->frozen || !link.coordinator->alive;
  return link.up.cut || link.left || link.member->frozen || !link.member->alive;
}

// Beats stop: noticed about a second later by the own clock, if the silence lasts.
void Network::WatchSilence(Link* link, bool at_member) {
  Process* const here = at_member ? link->member : link->coordinator;
  world_->Timer(here, world_->random.Between(Milliseconds(900), Milliseconds(1300)),
                [this, link, at_member] {
                  if (!Silent(*link, at_member)) return;
                  if (at_member) {
                    MemberNotices(link, Duration::zero(), "silent");
                  } else {
                    CoordinatorNotices(link, Duration::zero(), Unavailable("silent"));
                  }
                });
}

void Network::NoticeLoss(Link* link) {
  const bool member = world_->random.Chance(0.6);
  const bool coordinator = !member || world_->random.Chance(0.5);
  const auto soon = [this] { return world_->random.Between(Duration::zero(), Milliseconds(5)); };
  if (member) MemberNotices(link, soon(), "connection lost");
  if (coordinator) CoordinatorNotices(link, soon(), Unavailable("connection lost"));
}

void Network::KillEnd(Link* link, bool member_died) {
  const bool cut = link->up.cut || link->down.cut;
  const Duration soon = cut ? world_->random.Between(Milliseconds(900), Milliseconds(1300))
                            : world_->random.Between(Milliseconds(1), Milliseconds(5));
  const Time drained = member_died ? link->up.last_due : link->down.last_due;
  const Duration after = std::max(Duration::zero(), drained - world_->now()) + soon;
  if (member_died) {
    CoordinatorNotices(link, after,
                       cut ? Unavailable("silent") : PeerDied("its connection was reset"));
    if (!link->coordinator_sees) link->closed = true;
  } else if (link->left) {
    link->closed = true;
  } else if (link->member_sees) {
    MemberNotices(link, after, cut ? "silent" : "reset");
  } else {
    link->closed = true;
    Dial(link->member);
  }
}

// ---- cuts ---------------------------------------------------------------------------------------

Network::Partition Network::CutOf(const Process* member, const Process* coordinator) const {
  Partition cut;
  const auto add = [&cut](const auto& cuts, const auto& key) {
    if (const auto found = cuts.find(key); found != cuts.end()) cut.Add(found->second);
  };
  add(cut_names_, member->name);
  add(cut_lives_, member);
  add(cut_lives_, coordinator);
  add(cut_pairs_, std::pair(coordinator, member->name));
  return cut;
}

void Network::Recut() {
  for (Link& link : links_) {
    if (link.closed) continue;
    const Partition cut = CutOf(link.member, link.coordinator);
    const Partition before{link.down.cut, link.up.cut};
    link.down.cut = cut.down;
    link.up.cut = cut.up;
    if (cut.down && !before.down) WatchSilence(&link, true);
    if (cut.up && !before.up) WatchSilence(&link, false);
    if ((before.down && !cut.down) || (before.up && !cut.up)) OnHealed(&link);
  }
  Redial();
}

void Network::Cut(const std::string& name, bool to_member, bool to_coordinator) {
  cut_names_[name] = {to_member, to_coordinator};
  Recut();
}

void Network::Heal(const std::string& name) {
  cut_names_.erase(name);
  Recut();
}

void Network::CutLife(const Process* process) {
  cut_lives_[process] = {true, true};
  Recut();
}

void Network::HealLife(const Process* process) {
  cut_lives_.erase(process);
  Recut();
}

void Network::CutPair(const std::string& name, const Process* coordinator, bool to_member,
                      bool to_coordinator) {
  cut_pairs_[{coordinator, name}] = {to_member, to_coordinator};
  Recut();
}

void Network::HealPairs(const Process* coordinator) {
  std::erase_if(cut_pairs_, [&](const auto& cut) { return cut.first.first == coordinator; });
  Recut();
}

}  // namespace packcast::sim
