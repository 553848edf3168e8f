#include "tests/sim/network.h"

#include <algorithm>
#include <type_traits>
#include <utility>

namespace packcast::sim {
namespace {

constexpr size_t kCarriedKept = 8;

MemberId IdOf(const Process& process) { return {process.name, process.incarnation}; }

}  // namespace

void Network::SetCoordinator(Process* coordinator) {
  coordinator_ = coordinator;
  for (Link& link : links_) {
    if (!link.closed && link.coordinator != coordinator && !link.member_sees) Leave(&link);
  }
  Redial();
}

void Network::Redial() {
  for (Process* member : std::exchange(waiting_, {})) Dial(member);
}

Network::Link* Network::LinkOf(const Process* member) {
  for (auto link = links_.rbegin(); link != links_.rend(); ++link) {
    if (link->member == member) return link->closed || link->left ? nullptr : &*link;
  }
  return nullptr;
}

const Process* Network::CoordinatorOf(const Process* member) {
  const Link* link = LinkOf(member);
  return link == nullptr ? nullptr : link->coordinator;
}

void Network::Dial(Process* member) {
  const Duration wait = world_->random.Between(Microseconds(200), Milliseconds(30));
  world_->After(member, wait, [this, member] { TryDial(member); });
}

void Network::TryDial(Process* member) {
  if (LinkOf(member) != nullptr) return;
  const bool there = coordinator_ != nullptr && coordinator_->alive && !coordinator_->frozen;
  const Partition cut = there ? CutOf(member, coordinator_) : Partition{};
  if (cut.up || cut.down || !there) {
    waiting_.push_back(member);  // until what stands in the way is gone
    return;
  }
  Establish(member, coordinator_);
}

void Network::Establish(Process* member, Process* coordinator) {
  // It takes the place of one that the coordinator may not know to have ended.
  for (Link& earlier : links_) {
    if (earlier.member == member && earlier.coordinator == coordinator) earlier.closed = true;
  }
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
  if (options_.late > 0 && world_->random.Chance(options_.late)) {
    latency += world_->random.Between(Milliseconds(1), Milliseconds(20));
  }
  lane->last_due = std::max(lane->last_due, world_->now() + latency);
  lane->sent.push_back({lane->last_due, std::move(message)});
  Pump(link, lane);
}

template <class Message>
void Network::Pump(Link* link, Lane<Message>* lane) {
  if (lane->armed || lane->cut || lane->sent.size() <= lane->held) return;
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
  if (!receiver->alive || lane->cut || lane->sent.size() <= lane->held) return;
  if (receiver->frozen) return;  // stays in the kernel's buffer: OnThawed pumps
  Message message = std::move(lane->sent.front().message);
  lane->sent.pop_front();
  if (options_.repeats) {
    lane->carried.push_back(message);
    if (lane->carried.size() > kCarriedKept) lane->carried.pop_front();
  }
  Hand(link, std::move(message));
  Pump(link, lane);
}

// Whoever is heard is back, if only to fall silent again: this was sent a while ago.
void Network::Hand(Link* link, MemberMessage message) {
  const bool ended = link->closed || link->left || !link->member->alive;
  if (ended && !link->coordinator_sees) {  // a node refuses what comes after the end
    ++world_->stats.messages_lost;
    return;
  }
  if (!link->coordinator_sees) {
    link->coordinator_sees = true;
    user_->OnMemberBack(link->coordinator, IdOf(*link->member));
    WatchSilence(link, false);
  }
  user_->OnMemberMessage(link->coordinator, link->coordinator->incarnation, IdOf(*link->member),
                         std::move(message));
}

void Network::Hand(Link* link, CoordinatorMessage message) {
  if (!link->member_sees && !link->closed && !link->left) {
    link->member_sees = true;
    user_->OnCoordinatorUp(link->member, link->coordinator);
    WatchSilence(link, true);
  }
  user_->OnCoordinatorMessage(link->member, link->member->incarnation,
                              link->coordinator->incarnation, std::move(message));
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
    if (link.member == process) link.up.held = 0;
    if (link.coordinator == process) link.down.held = 0;
    Pump(&link, &link.up);
    Pump(&link, &link.down);
    SeeAgain(&link, Microseconds(10), Milliseconds(20));
  }
  Redial();
}

void Network::OnHealed(Link* link) {
  const bool survives = world_->random.Chance(0.6);  // TCP sends again what was held
  if (!survives) {
    const size_t lost = LoseSuffix<MemberMessage>(&link->up, nullptr) +
                        LoseSuffix<CoordinatorMessage>(&link->down, nullptr);
    if (lost > 0 && link->member_sees && link->coordinator_sees) NoticeLoss(link);
  }
  Pump(link, &link->up);
  Pump(link, &link->down);
  SeeAgain(link, Milliseconds(5), Milliseconds(40));
}

// ---- what is lost, and comes twice --------------------------------------------------------------

template <class Message>
size_t Network::LoseSuffix(Lane<Message>* lane, std::deque<Message>* leftovers) {
  const size_t kept = lane->sent.empty() ? 0 : world_->random.Below(lane->sent.size() + 1);
  const size_t lost = lane->sent.size() - kept;
  while (lane->sent.size() > kept) {
    if (leftovers != nullptr) leftovers->push_front(std::move(lane->sent.back().message));
    lane->sent.pop_back();
    if (lane->held > 0) --lane->held;
  }
  world_->stats.messages_lost += lost;
  return lost;
}

template <class Message>
void Network::LoseHeld(Lane<Message>* lane) {
  for (; lane->held > 0; --lane->held) lane->sent.pop_back();
}

// Its sender freezes: what the kernel has not got waits until it thaws.
template <class Message>
void Network::HoldBack(Lane<Message>* lane) {
  if (world_->random.Chance(0.5)) lane->held = world_->random.Below(lane->sent.size() + 1);
}

void Network::OnFrozen(Process* process) {
  for (Link& link : links_) {
    if (link.closed) continue;
    if (link.member == process) {
      HoldBack(&link.up);
      WatchSilence(&link, false);
    }
    if (link.coordinator == process) {
      HoldBack(&link.down);
      WatchSilence(&link, true);
    }
  }
}

void Network::OnKilled(Process* process) {
  constexpr size_t kLateKept = 4;
  for (Link& link : links_) {
    if (link.closed || (link.member != process && link.coordinator != process)) continue;
    const bool member_died = link.member == process;
    std::deque<MemberMessage> up;
    std::deque<CoordinatorMessage> down;
    // What it had not sent yet goes with it.
    LoseHeld(&link.up);
    LoseHeld(&link.down);
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
    KillEnd(&link, member_died);
  }
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

// Delivery is at most once, which the runtime's own tests see to. What comes twice here is what
// machines guard against by terms and keys; a join, a sync call and its answer have none.
bool MayRepeat(const MemberMessage& message) {
  return !std::holds_alternative<JoinCluster>(message) &&
         !std::holds_alternative<LeaveCluster>(message) &&
         !std::holds_alternative<SyncCall>(message) && !std::holds_alternative<SyncCancel>(message);
}

bool MayRepeat(const CoordinatorMessage& message) {
  const auto* expelled = std::get_if<Expelled>(&message);
  return !std::holds_alternative<SyncDone>(message) &&
         !std::holds_alternative<SyncWanted>(message) &&
         !std::holds_alternative<Shutdown>(message) &&
         (expelled == nullptr || expelled->may_rejoin);
}

template <class Message, class Again>
void Network::RepeatSome(const Lane<Message>& lane, Process* receiver, Again again) {
  Duration wait = world_->random.Between(Milliseconds(1), Milliseconds(80));
  for (const Message& message : lane.carried) {
    wait += Latency();
    if (!MayRepeat(message) || !world_->random.Chance(0.7)) continue;
    ++world_->stats.replayed;
    world_->After(receiver, wait, [again, message] { again(message); });
  }
}

void Network::Replay(const std::string& name) {
  Flap(name);
  for (Link& link : links_) {
    if (link.closed || link.left || link.member->name != name) continue;
    Link* const same = &link;
    RepeatSome(link.up, link.coordinator, [this, same](const MemberMessage& message) {
      if (!same->closed && !same->left) Hand(same, message);
    });
    RepeatSome(link.down, link.member, [this, same](const CoordinatorMessage& message) {
      if (!same->closed && !same->left) Hand(same, message);
    });
  }
}

}  // namespace packcast::sim
