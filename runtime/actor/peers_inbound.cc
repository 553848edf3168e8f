// The part of Peers that handles what arrives.
#include <algorithm>

#include "protocol/batch.h"
#include "protocol/codec.h"
#include "protocol/limits.h"
#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/base/clock.h"

namespace packcast::internal {
namespace {

// Messages taken from one socket before timers, beats and the other sockets have their turn; those
// in a batch count one by one.
constexpr int kMessagesPerTurn = 256;

// Answers a call from another process.
class RemoteReply : public ReplyTarget {
 public:
  RemoteReply(std::shared_ptr<Node> node, std::shared_ptr<Link> link, const Envelope& call)
      : node_(std::move(node)), link_(std::move(link)), is_cached_(call.idempotent) {
    reply_.kind = FrameKind::kReply;
    reply_.from = call.to;
    reply_.to = call.from;
    reply_.call_id = call.call_id;
    link_->room->serving.fetch_add(1);
  }
  ~RemoteReply() override { link_->room->serving.fetch_sub(1); }

  void Deliver(StatusOr<Value> result) override {
    reply_.status = result.status();
    const CallId cached_as = is_cached_ ? reply_.call_id : CallId();
    node_->SendReply(link_, std::move(reply_), result.ok() ? std::move(*result) : Value(),
                     cached_as, link_->room->serving.load() == 1);
  }

 private:
  const std::shared_ptr<Node> node_;
  const std::shared_ptr<Link> link_;
  const bool is_cached_;
  Envelope reply_;
};

}  // namespace

void Peers::ReceiveRouter() {
  net::Frames frames;
  for (taken_ = 0; taken_ < kMessagesPerTurn && !router_.is_drained(); ++taken_) {
    const net::ReceiveResult result = router_.Receive(&frames, limits::kControlFrames);
    if (result == net::ReceiveResult::kEmpty || result == net::ReceiveResult::kFailed) break;
    Source source;
    // Not the first, if there is another one: ZeroMQ makes that itself, and where it has looked
    // ahead it does not say by which connection it came.
    source.frame = &frames[std::min<size_t>(1, frames.size() - 1)];
    source.routing_id = std::string(frames[0].view());
    if (result == net::ReceiveResult::kTooManyFrames) {
      Malformed(source, InvalidArgument("too many frames in a message"));
      continue;
    }
    if (frames.size() < 2) {
      Malformed(source, InvalidArgument("a message without an envelope"));
      continue;
    }
    const auto found = links_.find(source.routing_id);
    if (found != links_.end()) source.link = found->second;
    OnFrames(std::move(source), frames, 1);
  }
  if (!router_monitor_.is_drained()) ReceiveDoor();
}

void Peers::ReceiveChannel(Channel* channel) {
  net::Frames frames;
  for (taken_ = 0; taken_ < kMessagesPerTurn; ++taken_) {
    const net::ReceiveResult result = channel->socket.Receive(&frames, limits::kControlFrames);
    if (result == net::ReceiveResult::kEmpty || result == net::ReceiveResult::kFailed) return;
    Source source;
    source.channel = channel;
    source.link = channel->link;
    if (result == net::ReceiveResult::kTooManyFrames) {
      Malformed(source, InvalidArgument("too many frames in a message"));
      continue;
    }
    OnFrames(std::move(source), frames, 0);
  }
}

void Peers::Malformed(const Source& source, const Status& why) {
  node_->metrics().Get("malformed_messages_total").Add();
  NoteBad(source);
  if (!malformed_log_.Allow(Now())) return;
  const std::string who = source.link ? "node " + source.link->node : "a stranger";
  LogWarning("node ", node_->options().name, ": bad message from ", who, ": ", why.message());
}

void Peers::Answer(const Source& source, const Envelope& envelope, const Value& body) {
  net::Frames frames;
  if (source.channel == nullptr) frames.emplace_back(std::string_view(source.routing_id));
  frames.emplace_back(std::string_view(EncodeEnvelope(envelope)));
  frames.emplace_back(std::string_view(Encode(body)));
  net::ZmqSocket& socket = source.channel == nullptr ? router_ : source.channel->socket;
  // Should it not leave, the other side asks again or gives up.
  (void)socket.Send(&frames);
}

// Frame `first` is the envelope; those behind it are taken.
void Peers::OnFrames(Source source, std::span<net::Frame> frames, size_t first) {
  Envelope partial;
  StatusOr<Envelope> decoded = DecodeEnvelope(frames[first].view(), &partial);
  if (decoded.ok()) {
    StatusOr<WireBody> body = TakeBody(frames.subspan(first + 1));
    if (!body.ok()) return Malformed(source, body.status());
    OnEnvelope(source, std::move(*decoded), std::move(*body));
    return;
  }
  Malformed(source, decoded.status());
  if (decoded.status().code() == StatusCode::kUnimplemented) {
    OnUnknown(source, partial, decoded.status());
  }
}

void Peers::OnUnknown(const Source& source, const Envelope& partial, const Status& error) {
  Envelope answer;
  answer.kind = partial.major == kProtocolMajor ? FrameKind::kUnsupported : FrameKind::kRefused;
  answer.to = partial.from;
  answer.call_id = partial.call_id;
  answer.status = error.WithOutcome(Outcome::kNotExecuted);
  if (source.channel != nullptr && answer.kind == FrameKind::kRefused) {
    // The server we called speaks another major version.
    OnRefused(source.channel, answer, Value());
    return;
  }
  Answer(source, answer, Value());
}

void Peers::OnEnvelope(Source& source, Envelope envelope, WireBody&& body) {
  const bool may_have_ranges = envelope.kind == FrameKind::kCall ||
                               envelope.kind == FrameKind::kTell ||
                               envelope.kind == FrameKind::kReply;
  if (!may_have_ranges && body.apart != nullptr) {
    return Malformed(source, InvalidArgument("byte ranges in a message that has none"));
  }
  const std::shared_ptr<Link> link = source.link;
  if (link != nullptr) {
    link->last_heard = link->heard_at = Now();
    const LinkState state = link->state.load();
    const bool is_silent = state == LinkState::kSuspect || state == LinkState::kUnreachable;
    // Without a session it is the hello or welcome that makes one: what waits for it can leave
    // then.
    if (is_silent && link->connected.load() && envelope.kind != FrameKind::kBye) {
      SetState(link, LinkState::kUp, "heard again");
    }
  }
  switch (envelope.kind) {
    case FrameKind::kHello: return OnHello(source, envelope, body.value.view());
    case FrameKind::kWelcome: {
      StatusOr<Value> value = Decode(body.value.view());
      StatusOr<Hello> hello = value.ok() ? DecodeHello(*value) : value.status();
      if (hello.ok() && hello->incarnation.value == 0) hello = NoIncarnation();
      if (!hello.ok()) return Malformed(source, hello.status());
      if (source.channel != nullptr) OnWelcome(source.channel, *hello);
      return;
    }
    case FrameKind::kRefused:
      if (source.channel != nullptr) {
        const StatusOr<Value> value = Decode(body.value.view());
        OnRefused(source.channel, envelope, value.ok() ? *value : Value());
      }
      return;
    case FrameKind::kUnsupported:
      if (envelope.status.ok()) envelope.status = Unimplemented("not supported there");
      if (link != nullptr && envelope.call_id.value != 0) OnReply(link, envelope, WireBody());
      return;
    case FrameKind::kCall:
    case FrameKind::kTell:
    case FrameKind::kReply:
    case FrameKind::kBeat:
    case FrameKind::kBye:
    case FrameKind::kBatch: break;
  }
  if (link == nullptr || link->is_gone()) {
    if (source.channel == nullptr) RefuseMessage(source, envelope);
    if (link == nullptr) NoteBad(source);
    return;
  }
  if (envelope.kind == FrameKind::kBeat) return OnBeat(source, body.value.view());
  if (envelope.kind == FrameKind::kBatch) return OnBatch(source, body.value.view());
  const bool has_callee = envelope.kind == FrameKind::kCall || envelope.kind == FrameKind::kTell;
  OnLinked(link, envelope, has_callee ? node_->FindCell(envelope.to.actor) : nullptr,
           std::move(body));
}

void Peers::OnLinked(const std::shared_ptr<Link>& link, const Envelope& envelope,
                     const std::shared_ptr<Cell>& to, WireBody&& body) {
  if (envelope.kind == FrameKind::kReply) return OnReply(link, envelope, body);
  if (envelope.kind == FrameKind::kBye) return OnBye(link, envelope);
  OnCallOrTell(link, envelope, to, std::move(body));
}

void Peers::OnBatch(const Source& source, std::string_view bytes) {
  // An envelope, and whom it is for: looked up once for all of its messages.
  struct Head {
    Status error;
    Envelope envelope;
    std::shared_ptr<Cell> to;
  };
  std::vector<Head> heads;
  BatchReader reader(bytes);
  BatchReader::Record record;
  while (!source.link->is_gone()) {
    const StatusOr<bool> is_there = reader.Next(&record);
    if (!is_there.ok()) return Malformed(source, is_there.status());
    if (!*is_there) return;
    ++taken_;
    if (!record.new_head.empty()) {
      Head& made = heads.emplace_back();
      const StatusOr<Envelope> decoded = DecodeEnvelope(record.new_head, &made.envelope);
      made.error = decoded.status();
      if (decoded.ok()) made.envelope = *decoded;
      made.to = node_->FindCell(made.envelope.to.actor);
    }
    Head& head = heads[record.head];
    const FrameKind kind = head.envelope.kind;
    const bool is_call = kind == FrameKind::kCall || kind == FrameKind::kReply;
    const bool is_known = is_call || kind == FrameKind::kTell || kind == FrameKind::kBye;
    head.envelope.call_id = record.call_id;
    head.envelope.deadline_ms = record.deadline_ms;
    if (!head.error.ok() || !is_known || (is_call && record.call_id.value == 0)) {
      Malformed(source,
                head.error.ok() ? InvalidArgument("not a message for a batch") : head.error);
      if (head.error.code() == StatusCode::kUnimplemented) {
        OnUnknown(source, head.envelope, head.error);
      }
      continue;
    }
    OnLinked(source.link, head.envelope, head.to, WireBody{net::Frame(record.body)});
  }
}

ActorRef Peers::Sender(const std::shared_ptr<Link>& link, const FrameAddress& from) {
  const RefState* last = link->last_sender.state();
  if (last == nullptr || last->actor != from.actor || last->incarnation != from.incarnation) {
    link->last_sender = ActorRef(std::make_shared<RefState>(RefState{
        node_->shared_from_this(), from.actor, link->node, from.incarnation, nullptr, link}));
  }
  return link->last_sender;
}

bool Peers::IsRepeated(const std::shared_ptr<Link>& link, const Envelope& envelope) {
  if (envelope.kind != FrameKind::kCall || !envelope.idempotent) return false;
  const ReplyCache::Reply* known = nullptr;
  if (link->replies.Begin(envelope.call_id, &known)) return false;
  node_->metrics().Get("repeated_calls_total").Add();
  if (known->is_done) {
    TransmitOwn({link, known->envelope, known->body.Share(), CallId(), CallId()});
  }
  return true;
}

// Of the room that one peer has here, for all actors together.
Status Peers::TakeRoom(const std::shared_ptr<Link>& link, const Envelope& envelope, size_t bytes,
                       HeldRoom* room) {
  // Does not wait, and helps where all is full.
  if (envelope.method.starts_with('$')) return OkStatus();
  const bool is_call = envelope.kind == FrameKind::kCall;
  if (is_call && link->room->owed_bytes.load() > limits::kOwedBytes) {
    return ResourceExhausted("more than " + std::to_string(limits::kOwedBytes >> 20) +
                             " MiB of byte ranges in replies to node " + link->node +
                             " have not been read there yet");
  }
  const size_t all = bytes + Outgoing::kEnvelopeBytes;
  const bool is_served = !is_call || link->room->serving.load() <= limits::kMailboxMessages;
  if (!is_served || !link->room->Hold(all)) {
    return ResourceExhausted(std::to_string(limits::kMailboxMessages) + " messages or " +
                             std::to_string(limits::kQueuedBytes >> 20) + " MiB of node " +
                             link->node + " wait here already");
  }
  *room = HeldRoom(link->room, all);
  return OkStatus();
}

void Peers::OnCallOrTell(const std::shared_ptr<Link>& link, const Envelope& envelope,
                         const std::shared_ptr<Cell>& to, WireBody&& body) {
  if (IsRepeated(link, envelope)) return;
  Cell::Mail mail;
  mail.message.from = Sender(link, envelope.from);
  mail.message.control = envelope.control;
  if (envelope.kind == FrameKind::kCall) {
    if (envelope.deadline_ms) {
      mail.message.deadline = Now() + Milliseconds(static_cast<int64_t>(*envelope.deadline_ms));
    }
    mail.message.responder =
        Responder(std::make_unique<RemoteReply>(node_->shared_from_this(), link, envelope));
  }
  Status error;
  if (envelope.to.actor.empty() && envelope.method == "$list") {
    return mail.message.responder.Reply(node_->ListActors());
  }
  if (envelope.to.actor.empty() && envelope.method == "$metrics") {
    return mail.message.responder.Reply(node_->metrics().Snapshot());
  }
  const bool is_here =
      to != nullptr && (envelope.to.incarnation.value == 0 || to->HadLife(envelope.to.incarnation));
  if (!is_here && envelope.method == "$fate") {
    const StatusOr<Value> fate = node_->FateOf(envelope.to.actor, envelope.to.incarnation);
    if (fate.ok()) return mail.message.responder.Reply(*fate);
  }
  if (to == nullptr) {
    // Nobody reads the error of a tell, and the list costs a copy of it.
    const bool is_call = envelope.kind == FrameKind::kCall;
    error = NotFound("no actor \"" + envelope.to.actor + "\" at node " + node_->options().name +
                     (is_call ? "; there are: " + node_->ActorNames() : ""));
  } else if (!is_here) {
    error = Stale("actor \"" + envelope.to.actor + "\" was restarted: the message is for an " +
                  "earlier incarnation of it");
  } else if (error = TakeRoom(link, envelope, body.size(), &mail.room); error.ok()) {
    mail.message.method = envelope.method;
    mail.raw_body = std::move(body);
    error = to->Push(std::move(mail));
  }
  if (error.ok()) return;
  node_->metrics().Get("undeliverable_messages_total").Add();
  // Only when nobody has answered it.
  mail.message.responder.Fail(error.WithOutcome(Outcome::kNotExecuted));
}

void Peers::OnReply(const std::shared_ptr<Link>& link, const Envelope& envelope,
                    const WireBody& body) {
  auto call = node_->calls().Take(envelope.call_id, link.get());
  if (!call) {
    node_->metrics().Get("late_replies_total").Add();
    return;
  }
  if (!envelope.status.ok()) {
    CallTable::Resolve(std::move(*call), envelope.status);
    return;
  }
  StatusOr<Value> value = DecodeBody(body);
  if (!value.ok()) {
    value = value.status()
                .WithContext("reply to call of " + call->what)
                .WithOutcome(Outcome::kExecuted);
  }
  CallTable::Resolve(std::move(*call), std::move(value));
}

void Peers::OnBeat(const Source& source, std::string_view body) {
  const StatusOr<Value> value = body.empty() ? StatusOr<Value>(Value()) : Decode(body);
  if (!value.ok()) return Malformed(source, value.status().WithContext("a beat"));
  if (value->AsMap() == nullptr) return;
  const std::shared_ptr<Link>& link = source.link;
  OnBusy(link, *value);
  if (value->AsMap()->empty()) return;
  std::map<std::string, uint64_t> counters;
  for (const auto& [actor, counter] : *value->AsMap()) {
    uint64_t number = 0;
    if (counter.GetUint(&number) && actor.size() <= limits::kNameBytes) counters[actor] = number;
  }
  node_->SetPeerProgress(*link, std::move(counters));
}

}  // namespace packcast::internal
