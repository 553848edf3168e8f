#include "tests/sim/network.h"

#include <algorithm>
#include <type_traits>
#include <utility>

namespace packcast::sim {
namespace {

MemberId IdOf(const Process& process) { return {process.name, process.incarnation}; }

constexpr size_t kLateKept = 4;

}  // namespace

void Network::SetCoordinator(Process* coordinator) {
  coordinator_ = coordinator;
  Redial();
}

void Network::Redial() {
  for (Process* member : std::exchange(waiting_, {})) Dial(member);
}

Network::Link* Network::LinkOf(const Process* member) {
  for (auto link = links_.rbegin(); link != links_.rend(); ++link) {
    if (link->member == member) return link->closed ? nullptr : &*link;
  }
  return nullptr;
}

void Network::Dial(Process* member) {
  const Duration wait = world_->random.Between(Microseconds(200), Milliseconds(30));
  world_->After(member, wait, [this, member] { TryDial(member); });
}

void Network::TryDial(Process* member) {
  if (LinkOf(member) != nullptr) return;
  const Partition& cut = cuts_[member->name];
  const bool there = coordinator_ != nullptr && coordinator_->alive && !coordinator_->frozen;
  if (cut.up || cut.down || !there) {
    waiting_.push_back(member);  // until what stands in the way is gone
    return;
  }
  Establish(member, coordinator_);
}

void Network::Establish(Process* member, Process* coordinator) {
  Link& link = links_.emplace_back();
  link.member = member;
  link.coordinator = coordinator;
  link.coordinator_sees = true;
  MemberSeesAgain(&link);
  // What came too late for an earlier life of either end.
  for (LateUp& late : std::exchange(late_up_[member->name], {})) {
    if (late.to == coordinator->incarnation) continue;
    world_->After(coordinator, Latency(), [this, coordinator, late = std::move(late)]() mutable {
      user_->OnMemberMessage(coordinator, late.to, late.from, std::move(late.message));
    });
  }
  for (LateDown& late : std::exchange(late_down_[member->name], {})) {
    if (late.to == member->incarnation && late.from == coordinator->incarnation) continue;
    world_->After(member, Latency(), [this, member, late = std::move(late)]() mutable {
      user_->OnCoordinatorMessage(member, late.to, late.from, std::move(late.message));
    });
  }
}

// ---- messages -----------------------------------------------------------------------------------

void Network::Send(Process* member, MemberMessage message) {
  Link* link = LinkOf(member);
  if (link == nullptr || !link->member_sees) {
    ++world_->stats.messages_lost;
    return;
  }
  Push(link, &link->up, std::move(message));
}

void Network::Send(Process* coordinator, const MemberId& to, CoordinatorMessage message) {
  for (auto link = links_.rbegin(); link != links_.rend(); ++link) {
    const bool here = !link->closed && link->coordinator == coordinator &&
                      link->member->incarnation == to.incarnation && link->coordinator_sees;
    if (!here) continue;
    Push(&*link, &link->down, std::move(message));
    return;
  }
  ++world_->stats.messages_lost;
}

template <class Message>
void Network::Push(Link* link, Lane<Message>* lane, Message message) {
  ++world_->stats.messages;
  Duration latency = Latency();
  if (late_ > 0 && world_->random.Chance(late_)) {
    latency += world_->random.Between(Milliseconds(1), Milliseconds(20));
  }
  lane->last_due = std::max(lane->last_due, world_->now() + latency);
  lane->sent.push_back({lane->last_due, std::move(message)});
  Pump(link, lane);
}

template <class Message>
void Network::Pump(Link* link, Lane<Message>* lane) {
  if (lane->armed || lane->cut || lane->sent.empty()) return;
  lane->armed = true;
  const Duration wait = std::max(Duration::zero(), lane->sent.front().due - world_->now());
  world_->After(wait, [this, link, lane] {
    lane->armed = false;
    Deliver(link, lane);
  });
}

template <class Message>
void Network::Deliver(Link* link, Lane<Message>* lane) {
  const bool to_member = std::is_same_v<Message, CoordinatorMessage>;
  const Process* receiver = to_member ? link->member : link->coordinator;
  if (!receiver->alive || lane->cut || lane->sent.empty()) return;
  if (receiver->frozen) return;  // stays in the kernel's buffer: OnThawed pumps
  Message message = std::move(lane->sent.front().message);
  lane->sent.pop_front();
  Hand(link, std::move(message));
  Pump(link, lane);
}

// Whoever is heard is back, if only to fall silent again: this was sent a while ago.
void Network::Hand(Link* link, MemberMessage message) {
  if (!link->coordinator_sees && !link->closed) {
    link->coordinator_sees = true;
    user_->OnMemberBack(link->coordinator, IdOf(*link->member));
    WatchSilence(link, false);
  }
  user_->OnMemberMessage(link->coordinator, link->coordinator->incarnation, IdOf(*link->member),
                         std::move(message));
}

void Network::Hand(Link* link, CoordinatorMessage message) {
  if (!link->member_sees && !link->closed) {
    link->member_sees = true;
    user_->OnCoordinatorUp(link->member);
    WatchSilence(link, true);
  }
  user_->OnCoordinatorMessage(link->member, link->member->incarnation,
                              link->coordinator->incarnation, std::move(message));
}

template <class Message>
size_t Network::LoseSuffix(Lane<Message>* lane, std::deque<Message>* leftovers) {
  const size_t kept = lane->sent.empty() ? 0 : world_->random.Below(lane->sent.size() + 1);
  const size_t lost = lane->sent.size() - kept;
  while (lane->sent.size() > kept) {
    if (leftovers != nullptr) leftovers->push_front(std::move(lane->sent.back().message));
    lane->sent.pop_back();
  }
  world_->stats.messages_lost += lost;
  return lost;
}

// ---- what each end notices ----------------------------------------------------------------------

void Network::MemberNotices(Link* link, Duration after, const std::string& cause) {
  world_->After(link->member, after, [this, link, cause] {
    if (!std::exchange(link->member_sees, false)) return;
    user_->OnCoordinatorLost(link->member, cause);
    if (link->coordinator->alive) return;
    link->closed = true;
    Dial(link->member);
  });
}

void Network::CoordinatorNotices(Link* link, Duration after, const Status& cause) {
  world_->After(link->coordinator, after, [this, link, cause] {
    if (!std::exchange(link->coordinator_sees, false)) return;
    if (!link->member->alive) link->closed = true;
    user_->OnMemberLost(link->coordinator, IdOf(*link->member), cause);
  });
}

void Network::MemberSeesAgain(Link* link) {
  if (link->member_sees || link->closed || Silent(*link, true)) return;
  link->member_sees = true;
  user_->OnCoordinatorUp(link->member);
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
  return link.up.cut || link.member->frozen || !link.member->alive;
}

// Beats stop: noticed about a second later, if the silence lasts.
void Network::WatchSilence(Link* link, bool at_member) {
  Process* const here = at_member ? link->member : link->coordinator;
  world_->After(here, world_->random.Between(Milliseconds(900), Milliseconds(1300)),
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

// ---- faults -------------------------------------------------------------------------------------

void Network::OnKilled(Process* process) {
  for (Link& link : links_) {
    if (link.closed || (link.member != process && link.coordinator != process)) continue;
    const bool member_died = link.member == process;
    std::deque<MemberMessage> up;
    std::deque<CoordinatorMessage> down;
    LoseSuffix(&link.up, &up);
    LoseSuffix(&link.down, &down);
    // What the dead life did not read may reach the next one.
    for (MemberMessage& message : up) {
      auto& late = late_up_[link.member->name];
      if (member_died || late.size() >= kLateKept) break;
      late.push_back({link.coordinator->incarnation, IdOf(*link.member), std::move(message)});
    }
    for (CoordinatorMessage& message : down) {
      auto& late = late_down_[link.member->name];
      if (!member_died || late.size() >= kLateKept) break;
      late.push_back({link.member->incarnation, link.coordinator->incarnation, std::move(message)});
    }
    const bool cut = link.up.cut || link.down.cut;
    const Duration soon = cut ? world_->random.Between(Milliseconds(900), Milliseconds(1300))
                              : world_->random.Between(Milliseconds(1), Milliseconds(5));
    const Time drained = member_died ? link.up.last_due : link.down.last_due;
    const Duration after = std::max(Duration::zero(), drained - world_->now()) + soon;
    if (member_died) {
      CoordinatorNotices(&link, after,
                         cut ? Unavailable("silent") : PeerDied("its connection was reset"));
      if (!link.coordinator_sees) link.closed = true;
    } else if (link.member_sees) {
      MemberNotices(&link, after, cut ? "silent" : "reset");
    } else {
      link.closed = true;
      Dial(link.member);
    }
  }
}

void Network::OnFrozen(Process* process) {
  for (Link& link : links_) {
    if (link.closed) continue;
    if (link.member == process) WatchSilence(&link, false);
    if (link.coordinator == process) WatchSilence(&link, true);
  }
}

void Network::OnThawed(Process* process) {
  const bool long_gone = world_->now() - process->frozen_since > Milliseconds(900);
  for (Link& link : links_) {
    if (link.closed || (link.member != process && link.coordinator != process)) continue;
    // Its own clock jumped too: it may take the others for silent before it reads their beats.
    if (long_gone && world_->random.Chance(0.5)) {
      if (link.member == process) MemberNotices(&link, Duration::zero(), "silent");
      if (link.coordinator == process) {
        CoordinatorNotices(&link, Duration::zero(), Unavailable("silent"));
      }
    }
    Pump(&link, &link.up);
    Pump(&link, &link.down);
    SeeAgain(&link, Microseconds(10), Milliseconds(20));
  }
  Redial();
}

void Network::Cut(const std::string& name, bool to_member, bool to_coordinator) {
  cuts_[name] = {to_member, to_coordinator};
  for (Link& link : links_) {
    if (link.closed || link.member->name != name) continue;
    link.down.cut = to_member;
    link.up.cut = to_coordinator;
    if (to_member) WatchSilence(&link, true);
    if (to_coordinator) WatchSilence(&link, false);
  }
}

void Network::Heal(const std::string& name) {
  cuts_[name] = {};
  const bool survives = world_->random.Chance(0.6);  // TCP sends again what was held
  for (Link& link : links_) {
    if (link.closed || link.member->name != name) continue;
    if (!link.up.cut && !link.down.cut) continue;
    link.up.cut = link.down.cut = false;
    if (!survives) {
      const size_t lost = LoseSuffix<MemberMessage>(&link.up, nullptr) +
                          LoseSuffix<CoordinatorMessage>(&link.down, nullptr);
      if (lost > 0 && link.member_sees && link.coordinator_sees) NoticeLoss(&link);
    }
    Pump(&link, &link.up);
    Pump(&link, &link.down);
    SeeAgain(&link, Milliseconds(5), Milliseconds(40));
  }
  Redial();
}

void Network::Flap(const std::string& name) {
  for (Link& link : links_) {
    if (link.closed || link.member->name != name || link.up.cut || link.down.cut) continue;
    LoseSuffix<MemberMessage>(&link.up, nullptr);
    LoseSuffix<CoordinatorMessage>(&link.down, nullptr);
    NoticeLoss(&link);
    SeeAgain(&link, Milliseconds(6), Milliseconds(60));
  }
}

}  // namespace packcast::sim
