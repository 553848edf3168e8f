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
constexpr size_t kRememberedEnds = 1024;
// A batch ends once it has so many bytes or messages; longer bodies travel alone, without a copy.
constexpr size_t kBatchBytes = 32u << 10;
constexpr size_t kBatchMessages = 1024;
constexpr size_t kBatchedBodyBytes = 4096;
// How long a dead peer is remembered, should the same life come back.
constexpr Duration kRememberDead = Seconds(60);
// A call that was sent to a peer before it was away for longer is not repeated: the peer, whose
// time runs a little differently, may know nothing of it any more.
constexpr Duration kRepeatWithin = kRememberDead - Seconds(10);
// Goodbyes that wait for a peer that is silent.
constexpr size_t kMissed = 4096;

Status StatusFor(const Link& link) {
  const std::string text = "node " + link.node + ": " + link.cause();
  const LinkState state = link.state.load();
  if (state == LinkState::kDied || state == LinkState::kLeft) return PeerDied(text);
  return Unavailable(link.cause().empty() ? "node " + link.node + " is not connected" : text);
}

// The link by which the same life of a peer is reached now.
std::shared_ptr<Link> HeirOf(std::shared_ptr<Link> link) {
  while (link->heir != nullptr) link = std::shared_ptr<Link>(link->heir);
  return link;
}

}  // namespace

Peers::Peers(Node* node, net::ZmqContext* context)
    : node_(node), context_(context), next_beat_(Now()), last_tick_(Now()) {}

Peers::~Peers() { Close(); }

void Peers::Close() {
  router_.Close();  // before its monitor: see ZmqSocket::OpenMonitor
  router_monitor_.Close();
  zap_.reset();
  ForEachLink([](const std::shared_ptr<Link>& link) {
    link->watches.clear();
    link->last_sender = ActorRef();  // it refers to the link: a cycle
    link->dealer = nullptr;
  });
  channels_.clear();
  links_.clear();
  losses_.clear();
  for (const std::shared_ptr<Link>& link : waiting_)
    link->backlog.clear();  // refers to it: a cycle
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

net::SendResult Peers::SendOn(Link* link, Outgoing* message) {
  net::Frames frames;
  frames.reserve(3);
  if (link->dealer == nullptr) {
    if (link->routing_id.empty()) return net::SendResult::kUnroutable;
    frames.emplace_back(std::string_view(link->routing_id));
  }
  frames.push_back(net::Frame(std::string_view(EncodeEnvelope(message->envelope))));
  frames.push_back(std::move(message->body));
  const net::SendResult result = SocketOf(*link).Send(&frames);
  if (result != net::SendResult::kSent) message->body = std::move(frames.back());
  return result;
}

void Peers::Refuse(const Outgoing& message, Status status) {
  if (message.call_id.value == 0) {
    node_->metrics().Get("dropped_messages_total").Add();
    return;
  }
  // A repeatable call stays in the table until its peer is back, or final, or its deadline.
  if (!message.link->is_gone() && node_->calls().IsIdempotent(message.call_id)) return;
  auto call = node_->calls().Take(message.call_id, message.link.get());
  if (!call) return;
  const Outcome outcome = call->sent ? Outcome::kMaybeExecuted : Outcome::kNotExecuted;
  CallTable::Resolve(std::move(*call), status.WithOutcome(outcome));
}

// Takes a call back from the table's point of view: it has not left after all.
void Peers::Unsend(const Outgoing& message) {
  if (message.call_id.value != 0) node_->calls().MarkUnsent(message.call_id);
}

// Sends what is at the front of the backlog, alone or with what follows it, and takes it out. False
// when ZeroMQ has no room.
bool Peers::SendFront(const std::shared_ptr<Link>& link) {
  std::deque<Outgoing>& backlog = link->backlog;
  const bool is_batch = link->batches && backlog.front().body.size() <= kBatchedBodyBytes;
  size_t count = 0;  // from the front
  size_t bytes = 0;  // of those; before they are sent, which takes their bodies away
  for (const Outgoing& message : backlog) {
    const bool has_room = is_batch && batch_.bytes() < kBatchBytes && count < kBatchMessages &&
                          message.body.size() <= kBatchedBodyBytes;
    if (count > 0 && !has_room) break;
    ++count;
    bytes += message.bytes();
    // One that has a result already must not be sent.
    const bool is_call = message.call_id.value != 0;
    if (is_call && !node_->calls().MarkSent(message.call_id)) continue;
    if (is_batch) batch_.Add(message.envelope, message.body.view());
    // A message of its own is the first, or the next after calls that have expired.
    if (!is_batch) return FinishFront(link, count, bytes, SendOn(link.get(), &backlog[count - 1]));
  }
  if (batch_.messages() == 0) return FinishFront(link, count, bytes, net::SendResult::kSent);
  Outgoing batch;
  batch.envelope.kind = FrameKind::kBatch;
  batch.body = net::Frame::Own(batch_.Take());
  return FinishFront(link, count, bytes, SendOn(link.get(), &batch));
}

bool Peers::FinishFront(const std::shared_ptr<Link>& link, size_t count, size_t bytes,
                        net::SendResult result) {
  const auto each = [&](const std::function<void(const Outgoing&)>& visit) {
    for (size_t k = 0; k < count; ++k) visit(link->backlog[k]);
  };
  switch (result) {
    case net::SendResult::kSent: break;
    case net::SendResult::kFull: each([&](const Outgoing& m) { Unsend(m); }); return false;
    case net::SendResult::kUnroutable:
      each([&](const Outgoing& m) { Unsend(m); });
      Lost(link);
      each([&](const Outgoing& m) { Refuse(m, StatusFor(*link)); });
      break;
    case net::SendResult::kFailed:
      each([&](const Outgoing& m) {
        Refuse(m, Internal("the socket to node " + link->node + " failed"));
      });
      break;
  }
  link->Release(bytes, static_cast<uint32_t>(count));
  link->backlog.erase(link->backlog.begin(),
                      link->backlog.begin() + static_cast<std::ptrdiff_t>(count));
  return true;
}

// The answer to a call that may be repeated goes to the caller although it was given up meanwhile,
// if it is back: the call that it repeats runs already. Its room is taken there and not here.
bool Peers::Redirect(Outgoing* reply, bool has_room_here) {
  const std::shared_ptr<Link> heir = HeirOf(reply->link);
  if (heir == reply->link) return has_room_here;
  if (has_room_here) reply->link->Release(reply->bytes());
  reply->link = heir;
  return heir->Reserve(reply->bytes());
}

void Peers::Transmit(Outgoing message) {
  if (message.cached_as.value != 0 && !Redirect(&message, true)) return DropReply(message);
  const std::shared_ptr<Link> link = message.link;
  if (message.cached_as.value != 0) {
    link->replies.Finish(message.cached_as, message.envelope, message.body.view());
  }
  link->backlog.push_back(std::move(message));
  if (std::exchange(link->is_listed, true)) return;
  waiting_.push_back(link);
}

// Only the plain case, in which no user's code can be reached: the rest is the reactor's.
bool Peers::TransmitNow(Outgoing* message, bool* has_come) {
  Link* const link = message->link.get();
  if (!link->is_usable() || !link->backlog.empty() || message->cached_as.value != 0) return false;
  const bool is_call = message->call_id.value != 0;
  const bool is_wanted = !is_call || node_->calls().MarkSent(message->call_id);
  if (is_wanted && SendOn(link, message) != net::SendResult::kSent) {
    Unsend(*message);
    return false;
  }
  *has_come = is_wanted && SocketOf(*link).HasCome();
  return true;
}

void Peers::Flush(const std::shared_ptr<Link>& link) {
  while (!link->backlog.empty()) {
    if (link->is_usable()) {
      if (!SendFront(link)) return;
      continue;
    }
    const Outgoing message = std::move(link->backlog.front());
    link->backlog.pop_front();
    link->Release(message.bytes());
    Refuse(message, StatusFor(*link));
  }
}

void Peers::FlushAll() {
  for (std::shared_ptr<Link>& link : std::exchange(waiting_, {})) {
    Flush(link);
    link->is_listed = !link->backlog.empty();
    if (link->is_listed) waiting_.push_back(std::move(link));
  }
}

// Sends a message of the reactor's own.
void Peers::TransmitOwn(Outgoing message) {
  if (!message.link->Reserve(message.bytes())) return Shun(message.link);
  Transmit(std::move(message));
}

void Peers::SendLate(Outgoing reply) {
  if (reply.cached_as.value == 0 || !Redirect(&reply, false)) return DropReply(reply);
  Transmit(std::move(reply));
}

// There is no room for it.
void Peers::DropReply(const Outgoing& reply) {
  node_->metrics().Get("dropped_messages_total").Add();
  // It is answered: when the call comes again, it must not run.
  if (reply.cached_as.value != 0) {
    reply.link->replies.Finish(reply.cached_as, reply.envelope, reply.body.view());
  }
  Shun(reply.link);
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
  link->state.store(state);
  LogDebug("node ", node_->options().name, ": peer ", link->node, " is ",
           PeerEventKindName(EventFor(state)), ": ", cause);
  if (state == LinkState::kDied || state == LinkState::kLeft) {
    if (link->connected.exchange(false)) link->lost_at = Now();
    link->missed.clear();  // when it is back it asks
  }
  if (!is_replaced_dead) TellWatchersOfLink(*link, cause);
  if (state >= LinkState::kUnreachable) FailCalls(link);
  if (state == LinkState::kLeft) link->watches.clear();
  if (state == LinkState::kUp) {
    ReopenAll(link);  // a goodbye may have been lost
    for (Envelope& bye : std::exchange(link->missed, {})) {
      TransmitOwn({link, std::move(bye), net::Frame(), CallId(), CallId()});
    }
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

// The connection is closed. When the peer was heard a moment ago its process is gone (the kernel
// closes a dead process's sockets at once); else the network may be, and silence will tell.
void Peers::Lost(const std::shared_ptr<Link>& link) {
  // Not when we notice: one that was frozen would notice late, and the peer has not.
  if (link->connected.exchange(false)) {
    link->lost_at = link->heard_at == Time() ? Now() : link->heard_at;
  }
  const bool was_fresh = !link->beats || Now() - link->last_heard < node_->options().suspect_after;
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
  });
}

void Peers::ConfirmLoss(const std::shared_ptr<Link>& link) {
  if (std::erase_if(losses_, [&](const Loss& loss) { return loss.link == link; }) == 0) return;
  if (link->state.load() >= LinkState::kDied) return;
  SetState(link, LinkState::kDied,
           EndOf(*link, "connection closed by the peer's host without a goodbye"));
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
  const net::Frame body(std::string_view(Encode(Value(std::move(counters)))));
  ForEachLink([&](const std::shared_ptr<Link>& link) {
    if (!link->connected.load() || (!link->beats && !also_scripts)) return;
    Outgoing message{link, beat, body.Share(), CallId(), CallId()};
    if (SendOn(link.get(), &message) == net::SendResult::kUnroutable) Lost(link);
  });
}

void Peers::Tick(Time now) {
  FlushAll();
  // Having slept ourselves (stopped, starved) is no evidence against anyone else.
  const Duration gap = now - last_tick_;
  if (gap > 3 * node_->options().beat_interval) {
    connections_.Forgive(gap);
    ForEachLink([&](const std::shared_ptr<Link>& link) {
      link->last_heard = std::min(now, link->last_heard + gap);
      ReopenAll(link);  // the others may have given us up, and not sent their news
    });
  }
  last_tick_ = now;
  const size_t due =
      std::count_if(probes_.begin(), probes_.end(), [&](Time t) { return t <= now; });
  if (due > 0) {
    std::erase_if(probes_, [&](Time t) { return t <= now; });
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
  });
  TickConnects(now);
  Purge(now);
}

// Who was only unreachable, cut off, is given up here. Where we connected to it may still come
// back.
void Peers::Purge(Time now) {
  const auto give_up = [&](const std::shared_ptr<Link>& link) {
    const bool is_old = link->state.load() >= LinkState::kUnreachable && !link->connected.load() &&
                        now - link->lost_at > kRememberDead;
    if (is_old) SetState(link, LinkState::kDied, "it did not connect again");
    return is_old;
  };
  for (Channel& channel : channels_) {
    if (channel.link) give_up(channel.link);
  }
  std::erase_if(links_, [&](const auto& entry) {
    const std::shared_ptr<Link>& link = entry.second;
    const bool is_old = give_up(link);
    if (is_old) {
      node_->metrics().Get("forgotten_peers_total").Add();
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
    if (link->is_usable()) return TransmitOwn({link, bye, net::Frame(), CallId(), CallId()});
    // Who is silent may hear us all the while: it does not know that it should ask.
    if (link->connected.load() && link->missed.size() < kMissed) link->missed.push_back(bye);
  });
}

}  // namespace packcast::internal
