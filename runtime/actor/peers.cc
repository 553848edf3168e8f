#include "runtime/actor/peers.h"

#include <algorithm>
#include <cstdint>

#include "protocol/codec.h"
#include "protocol/limits.h"
#include "runtime/actor/node.h"
#include "runtime/base/clock.h"

namespace packcast::internal {
namespace {

// How soon a full connection is tried again.
constexpr Duration kRetryInterval = Milliseconds(1);
// A goodbye that came with the end of its connection is handed over by ZeroMQ a little after the
// news of the end: wait this long before calling it a death.
constexpr Duration kGoodbyeGrace = Milliseconds(3);
// How long a process of ours that closed its connection is given to end: then its end is the cause.
constexpr Duration kObituaryWait = Seconds(1);
// Peers close a connection that was silent for so long. It takes a while until all of that is seen.
constexpr Duration kLongSleep = net::SocketOptions().heartbeat_timeout;
constexpr Duration kAfterSleep = Seconds(2);
constexpr size_t kRememberedEnds = 1024;
// How long a dead peer is remembered, should the same life come back.
constexpr Duration kRememberDead = Seconds(60);
// A call that was sent to a peer before it was away for longer is not repeated: the peer, whose
// time runs a little differently, may know nothing of it any more.
constexpr Duration kRepeatWithin = kRememberDead - Seconds(10);
// Goodbyes that wait for a peer that is silent.
constexpr size_t kMissed = 4096;

}  // namespace

Peers::Peers(Node* node, net::ZmqContext* context)
    : node_(node), context_(context), next_beat_(Now()), last_tick_(Now()) {}

Peers::~Peers() { Close(); }

void Peers::Close() {
  router_.Close();  // before its monitor: see ZmqSocket::OpenMonitor
  router_monitor_.Close();
  zap_.reset();
  // What a link has may refer to it, and so may what it was told when another had its place
  // already.
  const auto empty = [](const std::shared_ptr<Link>& link) {
    link->watches.clear();
    link->backlog.clear();
    link->last_sender = ActorRef();
    link->dealer = nullptr;
  };
  ForEachLink(empty);
  for (const auto& [life, weak] : rooms_) {
    const std::shared_ptr<PeerRoom> room = weak.lock();
    if (room == nullptr) continue;
    for (const auto& each : room->links) {
      if (const std::shared_ptr<Link> link = each.lock()) empty(link);
    }
  }
  channels_.clear();
  links_.clear();
  losses_.clear();
  waiting_.clear();
}

void Peers::ForEachLink(const std::function<void(const std::shared_ptr<Link>&)>& visit) {
  // A visit may change the maps.
  std::vector<std::shared_ptr<Link>> all;
  for (const auto& [id, link] : links_) all.push_back(link);
  for (const Channel& channel : channels_) {
    if (channel.link) all.push_back(channel.link);
  }
  for (const auto& link : all) visit(link);
}

// Calls but does not read the answers: it must say hello again, and what waits for it is dropped.
void Peers::Shun(const std::shared_ptr<Link>& link) {
  if (link->is_gone()) return;
  node_->metrics().Get("shunned_peers_total").Add();
  SetState(link, LinkState::kDied, "it does not read what is sent to it");
  SetState(link, LinkState::kLeft, link->cause());
}

void Peers::SetState(const std::shared_ptr<Link>& link, LinkState state, const std::string& cause) {
  const LinkState old = link->state.load();
  if (old == state || old == LinkState::kLeft) return;
  const bool is_replaced_dead = old == LinkState::kDied && state == LinkState::kLeft;
  if (!is_replaced_dead) link->set_cause(cause);  // first: others look at the state, then at it
  if (state == LinkState::kDied) link->has_died = true;
  if (state == LinkState::kUp) link->has_died = false;
  link->state.store(state);
  LogDebug("node ", node_->options().name, ": peer ", link->node, " is ",
           PeerEventKindName(EventFor(state)), ": ", cause);
  if (state == LinkState::kDied || state == LinkState::kLeft) {
    if (link->connected.exchange(false)) link->lost_at = link->away_since = Now();
    link->missed.clear();  // when it is back it asks
  }
  if (!is_replaced_dead) TellWatchersOfLink(link.get(), cause);
  if (state >= LinkState::kUnreachable) FailCalls(link);
  if (state == LinkState::kLeft) link->watches.clear();
  if (state == LinkState::kUp) {
    ReopenAll(link);  // a goodbye may have been lost
    for (Envelope& bye : std::exchange(link->missed, {})) {
      TransmitOwn({link, std::move(bye), WireBody(), CallId(), CallId()});
    }
    if (old == LinkState::kUnreachable) TellLinks(link);
    const Time now = Now();
    const Time lost_at = std::exchange(link->lost_at, Time());
    const bool is_forgotten_there = lost_at != Time() && now - lost_at > kRepeatWithin;
    for (Outgoing& message : node_->calls().Repeat(link, now)) {
      if (is_forgotten_there && GiveUpSent(link, message.call_id)) continue;
      // What finds no room now waits for the next time, or its deadline.
      if (link->Reserve(message.bytes())) Transmit(std::move(message));
    }
  }
}

// A call that the other side may have run, and does not know any more. False: it was not sent.
bool Peers::GiveUpSent(const std::shared_ptr<Link>& link, CallId id) {
  auto call = node_->calls().TakeSent(id, link.get());
  if (!call) return false;
  const Status why = Unavailable("node " + link->node + " was away for too long to send it again")
                         .WithContext("call of " + call->what)
                         .WithOutcome(Outcome::kMaybeExecuted);
  CallTable::Resolve(std::move(*call), why);
  return true;
}

void Peers::FailCalls(const std::shared_ptr<Link>& link) {
  const Status status = StatusFor(*link);
  for (PendingCall& call : node_->calls().TakeLink(link.get(), !link->is_gone())) {
    const Outcome outcome = call.sent ? Outcome::kMaybeExecuted : Outcome::kNotExecuted;
    const Status named = status.WithContext("call of " + call.what).WithOutcome(outcome);
    CallTable::Resolve(std::move(call), named);
  }
}

bool Peers::HasSlept(Time now) const {
  return now - last_tick_ > kLongSleep || now - slept_until_ < kAfterSleep;
}

// The connection is closed. When the peer was heard a moment ago its process is gone (the kernel
// closes a dead process's sockets at once); else the network may be, and silence will tell. It may
// also have been closed for our own silence.
void Peers::Lost(const std::shared_ptr<Link>& link) {
  // Not when we notice: one that was frozen would notice late, and the peer has not.
  if (link->connected.exchange(false)) {
    link->lost_at = link->heard_at == Time() ? Now() : link->heard_at;
    link->away_since = std::max(link->lost_at, link->last_heard);
  }
  const Time now = Now();
  const bool was_heard = now - link->last_heard < node_->options().suspect_after && !HasSlept(now);
  const bool was_fresh = !link->beats || was_heard;
  const bool is_known = std::any_of(losses_.begin(), losses_.end(),
                                    [&](const Loss& loss) { return loss.link == link; });
  if (link->state.load() >= LinkState::kDied || is_known) return;
  if (!was_fresh) {
    // Frozen or cut off for a while, one of us: the peer may have given us up meanwhile, so that
    // coming back must be told as such even when we had not noticed.
    if (link->state.load() < LinkState::kUnreachable) {
      SetState(link, LinkState::kUnreachable, "connection lost after a silence");
    }
    return;
  }
  const auto ward = wards_.find(link->incarnation);
  const bool is_awaited = ward != wards_.end() && ward->second.empty();
  losses_.push_back({link, Now() + (is_awaited ? kObituaryWait : kGoodbyeGrace)});
}

void Peers::ExpectObituary(Incarnation node) {
  // Who restarts its processes all day long does not need to know how those of yesterday ended.
  if (wards_.size() >= kRememberedEnds) {
    std::erase_if(wards_, [](const auto& ward) { return !ward.second.empty(); });
  }
  wards_.emplace(node, "");
  CountWards();
}

void Peers::ForgetObituary(Incarnation node) {
  wards_.erase(node);
  CountWards();
}

void Peers::CountWards() {
  const auto run = std::count_if(wards_.begin(), wards_.end(),
                                 [](const auto& ward) { return ward.second.empty(); });
  node_->metrics().Get("child_processes").Set(run);
}

void Peers::Obituary(Incarnation node, const std::string& cause) {
  wards_[node] = cause;
  CountWards();
  for (auto& [link, due] : losses_) {
    if (link->incarnation == node) due = std::min(due, Now() + kGoodbyeGrace);
  }
  // While it is up its last words may still be on their way: then its connection ends by itself.
  ForEachLink([&](const std::shared_ptr<Link>& link) {
    const LinkState state = link->state.load();
    const bool is_silent = state == LinkState::kSuspect || state == LinkState::kUnreachable;
    if (link->incarnation == node && is_silent) SetState(link, LinkState::kDied, cause);
    if (link->incarnation == node) Bury(link);
  });
}

// A process of ours that has ended does not come back.
void Peers::Bury(const std::shared_ptr<Link>& link) {
  const bool has_ended = !EndOf(*link, "").empty();
  if (has_ended && link->state.load() == LinkState::kDied) {
    SetState(link, LinkState::kLeft, link->cause());
  }
}

void Peers::ConfirmLoss(const std::shared_ptr<Link>& link) {
  if (std::erase_if(losses_, [&](const Loss& loss) { return loss.link == link; }) == 0) return;
  if (link->state.load() >= LinkState::kDied) return;
  SetState(link, LinkState::kDied,
           EndOf(*link, "connection closed by the peer's host without a goodbye"));
  Bury(link);
}

void Peers::ForgetLoss(const std::shared_ptr<Link>& link) {
  std::erase_if(losses_, [&](const Loss& loss) { return loss.link == link; });
  if (link->state.load() >= LinkState::kUnreachable) return;
  SetState(link, LinkState::kUnreachable, "it connected anew, and its old connection had ended");
}

std::string Peers::EndOf(const Link& link, const std::string& otherwise) const {
  const auto ward = wards_.find(link.incarnation);
  return ward != wards_.end() && !ward->second.empty() ? ward->second : otherwise;
}

void Peers::ConfirmLosses(Time now) {
  std::vector<std::shared_ptr<Link>> due;
  for (const auto& [link, when] : losses_) {
    if (when <= now) due.push_back(link);
  }
  for (const auto& link : due) ConfirmLoss(link);
}

void Peers::Judge(const std::shared_ptr<Link>& link, Time now) {
  if (!link->beats || link->state.load() >= LinkState::kDied) return;
  const Duration silence = now - std::max(link->last_heard, link->busy_until);
  const std::string cause = "no beat for " + std::to_string(ToMilliseconds(silence)) + " ms";
  if (silence >= node_->options().unreachable_after) {
    SetState(link, LinkState::kUnreachable, cause);
  } else if (silence >= node_->options().suspect_after &&
             link->state.load() < LinkState::kSuspect) {
    SetState(link, LinkState::kSuspect, cause);
  }
}

void Peers::SendBeats(bool also_scripts) {
  ValueMap counters;
  for (const auto& cell : node_->Cells()) {
    if (cell->progress() != 0) counters.emplace_back(cell->name(), cell->progress());
  }
  AddBusy(Now(), &counters);
  Envelope beat;
  beat.kind = FrameKind::kBeat;
  const WireBody body{net::Frame(std::string_view(Encode(Value(std::move(counters)))))};
  ForEachLink([&](const std::shared_ptr<Link>& link) {
    if (!link->connected.load() || (!link->beats && !also_scripts)) return;
    const Outgoing message{link, beat, body.Share(), CallId(), CallId()};
    if (SendOn(link.get(), message) == net::SendResult::kUnroutable) Lost(link);
  });
}

void Peers::Tick(Time now) {
  FlushAll();
  // Having slept ourselves (stopped, starved) is no evidence against anyone else.
  const Duration gap = now - last_tick_;
  if (gap > 3 * node_->options().beat_interval) {
    if (gap > kLongSleep) slept_until_ = now;
    connections_.Forgive(gap);
    ForEachLink([&](const std::shared_ptr<Link>& link) {
      link->last_heard = std::min(now, link->last_heard + gap);
      link->away_since = std::min(now, link->away_since + gap);
      ReopenAll(link);  // the others may have given us up, and not sent their news
    });
  }
  last_tick_ = now;
  const size_t due =
      std::count_if(probes_.begin(), probes_.end(), [&](Time t) { return t <= now; });
  if (due > 0) {
    std::erase_if(probes_, [&](Time t) { return t <= now; });
    last_probe_ = now;
    SendBeats(true);
  }
  ConfirmLosses(now);
  for (Channel& channel : channels_) SendHellos(&channel);
  if (now < next_beat_) return;
  next_beat_ = now + node_->options().beat_interval;
  SendBeats(false);
  TickDoor(now);
  ForEachLink([&](const std::shared_ptr<Link>& link) {
    Judge(link, now);
    AskFates(link);
    TellMissed(link.get());
  });
  TickConnects(now);
  Purge(now);
}

// It was away for so long, but for the time that it had asked for, and that in which we slept.
bool Peers::IsForgotten(const Link& link, Time now) {
  return now - std::max(link.away_since, link.busy_until) > kRememberDead;
}

// Nobody waits for it, and it never answered, or who did is gone: a socket of libzmq tries to
// connect for ever.
bool Peers::IsOver(const Channel& channel, Time now) {
  if (!channel.connects.empty()) return false;
  const std::shared_ptr<Link>& link = channel.link;
  if (link == nullptr) return true;
  if (channel.is_connected || !channel.superseded.ok()) return false;
  // It may come back as long as somebody would know it again.
  const bool is_forgotten =
      link->state.load() == LinkState::kDied && link.use_count() == 1 && IsForgotten(*link, now);
  if (!link->is_gone() && !is_forgotten) return false;
  link->dealer = nullptr;
  node_->ForgetPeerProgress(*link);
  return true;
}

// Who was only unreachable, cut off, is given up here. Where we connected to it may still come
// back.
void Peers::Purge(Time now) {
  const auto give_up = [&](const std::shared_ptr<Link>& link) {
    const bool is_old = link->state.load() >= LinkState::kUnreachable && !link->connected.load() &&
                        IsForgotten(*link, now);
    if (is_old) SetState(link, LinkState::kDied, "it did not connect again");
    return is_old;
  };
  for (Channel& channel : channels_) {
    if (!channel.link || !give_up(channel.link)) continue;
    channel.link->last_sender = ActorRef();
    std::erase_if(channel.link->watches, [](const auto& watch) { return watch.watcher.expired(); });
  }
  std::erase_if(channels_, [&](const Channel& channel) { return IsOver(channel, now); });
  std::erase_if(rooms_, [](const auto& entry) { return entry.second.expired(); });
  std::erase_if(links_, [&](const auto& entry) {
    const std::shared_ptr<Link>& link = entry.second;
    // A script's routing id is random: once it has said goodbye it is another one that comes.
    const bool is_over = link->is_gone() && !link->has_died.load() && !link->beats;
    const bool is_old = give_up(link) || is_over;
    if (is_old) {
      node_->metrics().Get("forgotten_peers_total").Add();
      link->room->RemoveWay(link.get());
      SetState(link, LinkState::kLeft, link->cause());
      link->last_sender = ActorRef();
      node_->ForgetPeerProgress(*link);
    }
    return is_old;
  });
}

Time Peers::NextDue(Time now) const {
  Time due = next_beat_;
  for (Time probe : probes_) due = std::min(due, probe);
  for (const auto& [link, when] : losses_) due = std::min(due, when);
  bool has_retry = !waiting_.empty();
  for (const Channel& channel : channels_) {
    has_retry = has_retry || (channel.is_connected && channel.is_hello_due);
  }
  return has_retry ? std::min(due, now + kRetryInterval) : due;
}

void Peers::AnnounceEnd(const FrameAddress& life, const Status& why, Incarnation next) {
  Envelope bye;
  bye.kind = FrameKind::kBye;
  bye.from = life;
  bye.to.incarnation = next;
  bye.status = why;
  ForEachLink([&](const std::shared_ptr<Link>& link) {
    if (link->is_usable()) return TransmitOwn({link, bye, WireBody(), CallId(), CallId()});
    // Who is silent may hear us all the while: it does not know that it should ask.
    if (link->connected.load() && link->missed.size() < kMissed) link->missed.push_back(bye);
  });
}

}  // namespace packcast::internal
