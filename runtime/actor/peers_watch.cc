// Who watches actors of other nodes, and what they are told. Goodbyes of actors bring the news; as
// they may have come before the watch, or been lost with a connection, the peer is asked as well,
// for each watch and whenever the peer is back.
#include <algorithm>
#include <utility>

#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/base/clock.h"

namespace packcast::internal {
namespace {

// The peer's reactor answers; what it has to read first may take a while.
constexpr Duration kFatePatience = Seconds(10);

using Kind = PeerEvent::Kind;

// News of one watch that wait for its watcher. Beyond, the last of each kind is kept for later.
constexpr long kNewsPerWatch = 64;

void TellWatcher(const Link::Watch& watch, Kind kind, const std::string& cause) {
  const auto cell = watch.watcher.lock();
  if (cell == nullptr) return;
  const bool lives_on = kind == Kind::kRestarted;
  cell->PushPeer({kind, watch.ref, lives_on ? watch.life : watch.ref.incarnation(), cause},
                 watch.waiting);
}

std::string TextOf(const Value& map, std::string_view key) {
  const Value* value = map.Find(key);
  const std::string* text = value == nullptr ? nullptr : value->AsString();
  return text == nullptr ? "" : *text;
}

}  // namespace

PeerEvent::Kind Peers::EventFor(LinkState state) {
  switch (state) {
    case LinkState::kUp: return PeerEvent::Kind::kRecovered;
    case LinkState::kSuspect: return PeerEvent::Kind::kSuspect;
    case LinkState::kUnreachable: return PeerEvent::Kind::kUnreachable;
    case LinkState::kDied: return PeerEvent::Kind::kDied;
    case LinkState::kLeft: return PeerEvent::Kind::kLeft;
  }
  return PeerEvent::Kind::kDied;
}

// Of an actor that is reached over several connections there is one watch.
Link::Watch* Peers::FindWatch(const Cell* watcher, const ActorRef& ref) {
  for (const auto& weak : ref.state()->link->room->links) {
    const std::shared_ptr<Link> link = weak.lock();
    // One that has ended tells nothing before it is back, if ever.
    const bool is_of_use =
        link != nullptr && (link == ref.state()->link || link->state.load() < LinkState::kDied);
    if (!is_of_use) continue;
    for (Link::Watch& watch : link->watches) {
      if (watch.ref == ref && watch.watcher.lock().get() == watcher) return &watch;
    }
  }
  return nullptr;
}

void Peers::Watch(const std::shared_ptr<Cell>& watcher, const ActorRef& ref) {
  const std::shared_ptr<Link>& link = ref.state()->link;
  const LinkState state = link->state.load();
  if (state != LinkState::kLeft) {
    if (FindWatch(watcher.get(), ref) != nullptr) return;
    std::erase_if(link->watches, [](const Link::Watch& watch) { return watch.watcher.expired(); });
    link->watches.push_back({watcher, ref, Incarnation(), true});
    link->watches.back().told_state = state;
    link->has_questions = true;
  }
  if (state != LinkState::kUp) {
    // The death of one that is final is no orderly end.
    const auto kind = EventFor(link->has_died.load() ? LinkState::kDied : state);
    watcher->PushPeer({kind, ref, ref.incarnation(), link->cause()});
  }
  if (link->busy_until > Now() && state != LinkState::kLeft) {
    TellWatcherBusy(&link->watches.back(), *link);
  }
  AskFates(link);
}

void Peers::Unwatch(const Cell* watcher, const ActorRef& ref) {
  for (const auto& weak : ref.state()->link->room->links) {
    const std::shared_ptr<Link> link = weak.lock();
    if (link == nullptr) continue;
    std::erase_if(link->watches, [&](const Link::Watch& watch) {
      return watch.watcher.expired() || (watch.ref == ref && watch.watcher.lock().get() == watcher);
    });
  }
}

void Peers::NoteLink(const ActorRef& watcher, const ActorRef& ref, bool on) {
  Link::Watch* const watch = FindWatch(watcher.state()->cell.get(), ref);
  if (watch != nullptr) watch->linked_as = on ? watcher.incarnation() : Incarnation();
}

// What was said of them may have been lost with a connection, by which those may have gone whose
// watch is at another one. Who is linked already stays so.
void Peers::TellLinks(const std::shared_ptr<Link>& link) {
  const std::shared_ptr<Link> way = link->room->WayOf(link);
  std::vector<Outgoing> messages;
  for (const auto& weak : link->room->links) {
    const std::shared_ptr<Link> other = weak.lock();
    if (other == nullptr) continue;
    for (const Link::Watch& watch : other->watches) {
      const auto cell = watch.watcher.lock();
      if (watch.linked_as.value == 0 || cell == nullptr) continue;
      Envelope tell;
      tell.kind = FrameKind::kTell;
      tell.from = {cell->name(), watch.linked_as};
      tell.to = {watch.ref.actor(), watch.ref.incarnation()};
      tell.method = "$link";
      tell.control = true;
      messages.push_back({way, std::move(tell), WireBody(), CallId(), CallId()});
    }
  }
  for (Outgoing& message : messages) TransmitOwn(std::move(message));
}

void Peers::AskFates(const std::shared_ptr<Link>& link) {
  // Scripts have no actors.
  if (!link->beats || link->state.load() != LinkState::kUp) return;
  if (!std::exchange(link->has_questions, false)) return;
  for (Link::Watch& watch : link->watches) {
    if (!std::exchange(watch.is_open, false)) continue;
    CallOptions options;
    options.deadline = kFatePatience;
    options.control = true;
    // The answer must not overtake the news that come by this connection, nor they it.
    node_->CallBy(link, *watch.ref.state(), "$fate", Value(), options)
        .Then([weak = node_->weak_from_this(), link, ref = watch.ref,
               known = watch.life](const StatusOr<Value>& fate) {
          const auto node = weak.lock();
          if (node == nullptr) return;
          node->reactor().Post(
              [link, ref, known, fate](Peers& peers) { peers.OnFate(link, ref, known, fate); });
        });
  }
}

void Peers::OnFate(const std::shared_ptr<Link>& link, const ActorRef& ref, Incarnation known,
                   const StatusOr<Value>& fate) {
  if (link->state.load() == LinkState::kDied) return Reopen(link, ref);  // as in OnActorBye
  bool is_gone = false;
  Kind kind = Kind::kDied;
  std::string cause = "it is gone, and its node does not remember how it ended";
  Incarnation life;
  if (fate.ok()) {
    const std::string state = TextOf(*fate, "state");
    is_gone = state == "died" || state == "left";
    if (state == "left") kind = Kind::kLeft;
    if (is_gone) cause = TextOf(*fate, "cause");
    const Value* incarnation = fate->Find("incarnation");
    if (incarnation != nullptr) incarnation->GetUint(&life.value);
  } else {
    const StatusCode code = fate.status().code();
    const bool was_refused = fate.status().outcome() == Outcome::kNotExecuted;
    is_gone = was_refused && (code == StatusCode::kNotFound || code == StatusCode::kStale);
    // Any other answer comes from the actor: it is there, in a peer that does not know the method.
    const bool is_unanswered = code == StatusCode::kUnavailable || code == StatusCode::kPeerDied ||
                               code == StatusCode::kDeadlineExceeded ||
                               code == StatusCode::kResourceExhausted;
    if (is_unanswered) return Reopen(link, ref);
  }
  std::erase_if(link->watches, [&](Link::Watch& watch) {
    if (watch.ref != ref) return false;
    if (is_gone) TellWatcher(watch, kind, cause);
    // Unless a goodbye has overtaken the answer on its way through this process.
    if (!is_gone && life.value != 0 && watch.life == known) {
      watch.life = life;
      const bool missed_one = known.value != 0 && known != life;
      if (missed_one) TellRestart(&watch, "it restarted while out of reach");
    }
    return is_gone;
  });
}

// The question got no answer: with the next tick or once the peer is back it is put again.
void Peers::Reopen(const std::shared_ptr<Link>& link, const ActorRef& ref) {
  for (Link::Watch& watch : link->watches) {
    if (watch.ref == ref) watch.is_open = link->has_questions = true;
  }
}

void Peers::ReopenAll(const std::shared_ptr<Link>& link) {
  for (Link::Watch& watch : link->watches) watch.is_open = link->has_questions = true;
}

bool Peers::IsBehind(const Link::Watch& watch) {
  return watch.waiting.use_count() > kNewsPerWatch;  // which has one, too
}

void Peers::TellState(Link::Watch* watch, LinkState state, const std::string& cause) {
  // A death is told however much waits, as is the end; but not twice, without a return between.
  const bool is_needed = state == LinkState::kLeft ||
                         (state == LinkState::kDied && watch->told_state != LinkState::kDied);
  watch->missed_state = IsBehind(*watch) && !is_needed;
  if (watch->missed_state) return;
  watch->told_state = state;
  TellWatcher(*watch, EventFor(state), cause);
}

void Peers::TellRestart(Link::Watch* watch, const std::string& cause) {
  watch->missed_restart = IsBehind(*watch);
  if (!watch->missed_restart) TellWatcher(*watch, Kind::kRestarted, cause);
}

void Peers::TellWatchersOfLink(Link* link, const std::string& cause) {
  const LinkState state = link->state.load();
  for (Link::Watch& watch : link->watches) {
    if (state == LinkState::kDied) watch.linked_as = Incarnation();  // who was linked has failed
    TellState(&watch, state, cause);
  }
}

// What those who were behind have not been told: how things are now.
void Peers::TellMissed(Link* link) {
  const LinkState state = link->state.load();
  for (Link::Watch& watch : link->watches) {
    if (watch.waiting.use_count() > kNewsPerWatch / 2) continue;
    const bool missed_state = std::exchange(watch.missed_state, false);
    if (missed_state && watch.told_state != state) TellState(&watch, state, link->cause());
    if (std::exchange(watch.missed_restart, false)) TellRestart(&watch, "it restarted again");
    const bool missed_busy = std::exchange(watch.missed_busy, false);
    const bool is_busy = link->busy_until != Time();
    if (missed_busy && (is_busy || watch.told_busy)) TellWatcherBusy(&watch, *link);
  }
}

void Peers::OnActorBye(const std::shared_ptr<Link>& link, const Envelope& envelope,
                       const std::string& cause) {
  // It is dead to those who watch, until its hello or welcome comes; then it is asked.
  if (link->state.load() == LinkState::kDied) return;
  // A next life is named where there is one; without it, a stop is orderly unless it says why not.
  const Incarnation next = envelope.to.incarnation;
  const bool lives_on = next.value != 0;
  const bool has_died = envelope.status.code() == StatusCode::kPeerDied;
  const Kind kind = lives_on ? Kind::kRestarted : has_died ? Kind::kDied : Kind::kLeft;
  std::erase_if(link->watches, [&](Link::Watch& watch) {
    // There is one goodbye for each life that it had, and the watch may be of any.
    const Incarnation ended = envelope.from.incarnation;
    const bool is_it = watch.ref.actor() == envelope.from.actor &&
                       (watch.ref.incarnation() == ended || watch.life == ended);
    if (!is_it) return false;
    if (lives_on && std::exchange(watch.life, next) == next) return false;  // told
    if (lives_on) {
      TellRestart(&watch, cause);
    } else {
      TellWatcher(watch, kind, cause);
    }
    return !lives_on;
  });
}

}  // namespace packcast::internal
