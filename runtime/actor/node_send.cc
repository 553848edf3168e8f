// The part of Node that sends messages: tells, calls and replies.
#include <algorithm>
#include <utility>

#include "protocol/limits.h"
#include "runtime/actor/names.h"
#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/actor/wire_body.h"
#include "runtime/base/clock.h"

namespace packcast::internal {
namespace {

// Answers a call from an actor or thread of the same process.
class LocalReply : public ReplyTarget {
 public:
  LocalReply(std::shared_ptr<Node> node, CallId id) : node_(std::move(node)), id_(id) {}
  bool Begin() override { return node_->calls().MarkSent(id_); }
  void Deliver(StatusOr<Value> result) override {
    auto call = node_->calls().Take(id_, nullptr);
    if (call) CallTable::Resolve(std::move(*call), std::move(result));
  }

 private:
  const std::shared_ptr<Node> node_;
  const CallId id_;
};

Status CheckMethod(const std::string& method) {
  if (IsWireName(method)) return OkStatus();
  return InvalidArgument("a method's name has 1 to " + std::to_string(limits::kNameBytes) +
                         " bytes of UTF-8")
      .WithOutcome(Outcome::kNotExecuted);
}

Cell::Mail TellMail(std::string method, const TellOptions& options) {
  Cell::Mail mail;
  if (Cell* sender = Cell::Current()) mail.message.from = sender->Ref();
  mail.message.method = std::move(method);
  mail.message.control = options.control;
  return mail;
}

FrameAddress CurrentSender() {
  const Cell* cell = Cell::Current();
  return cell == nullptr ? FrameAddress() : FrameAddress{cell->name(), cell->incarnation()};
}

Status ShutDown() { return Cancelled("the runtime shut down").WithOutcome(Outcome::kNotExecuted); }

Status TooMuchWaits(const std::string& node) {
  return ResourceExhausted(std::to_string(limits::kMailboxMessages) + " messages or " +
                           std::to_string(limits::kQueuedBytes >> 20) + " MiB to node " + node +
                           " wait already")
      .WithOutcome(Outcome::kNotExecuted);
}

Status Unusable(const Link& link) {
  const std::string text = "node " + link.node;
  const LinkState state = link.state.load();
  Status status = Unavailable(text + " is not reachable now");
  const std::string remedy = link.cause() + "; connect again to its next life";
  if (state == LinkState::kLeft) status = PeerDied(text + " has left: " + remedy);
  if (link.has_died.load()) status = PeerDied(text + " has died: " + remedy);
  return status.WithOutcome(Outcome::kNotExecuted);
}

}  // namespace

Status Node::WhyNot(const Link& link) const {
  return calls_.is_closed() ? ShutDown() : Unusable(link);
}

Status Node::Tell(const RefState& to, std::string method, Value body, TellOptions options) {
  PC_RETURN_IF_ERROR(CheckMethod(method));
  return SendTell(to, std::move(method), std::move(body), options);
}

Status Node::SendTell(const RefState& to, std::string method, Value body, TellOptions options) {
  if (to.cell != nullptr) {
    Cell::Mail mail = TellMail(std::move(method), options);
    mail.message.body = std::move(body);
    return to.cell->Push(std::move(mail));
  }
  const std::shared_ptr<Link> link = to.link->room->WayOf(to.link);
  if (!link->is_usable()) return WhyNot(*link);
  WireBody encoded;
  PC_RETURN_IF_ERROR(EncodeBody(body, link->ranges, &encoded));
  return SendTellBy(link, to, std::move(method), std::move(encoded), options);
}

Status Node::Tell(const RefState& to, std::string method, const SharedBody& body,
                  TellOptions options) {
  PC_RETURN_IF_ERROR(CheckMethod(method));
  if (to.cell != nullptr) {
    Cell::Mail mail = TellMail(std::move(method), options);
    mail.raw_body = WireBody{net::Frame::Of(body.bytes())};
    return to.cell->Push(std::move(mail));
  }
  const std::shared_ptr<Link> link = to.link->room->WayOf(to.link);
  if (!link->is_usable()) return WhyNot(*link);
  return SendTellBy(link, to, std::move(method), WireBody{net::Frame::Of(body.bytes())}, options);
}

Status Node::SendTellBy(const std::shared_ptr<Link>& link, const RefState& to, std::string method,
                        WireBody&& body, TellOptions options) {
  Envelope envelope;
  envelope.kind = FrameKind::kTell;
  envelope.from = CurrentSender();
  envelope.to = {to.actor, to.incarnation};
  envelope.method = std::move(method);
  envelope.control = options.control;
  Outgoing message{link, std::move(envelope), std::move(body), CallId(), CallId()};
  if (!link->Reserve(message.bytes())) return TooMuchWaits(to.node);
  return reactor_->Send(std::move(message)) ? OkStatus() : ShutDown();
}

CallbackRunner Node::Runner() {
  return [weak = weak_from_this()](std::function<void()> work) {
    const auto node = weak.lock();
    if (node == nullptr || !node->executor_.Post(true, std::move(work))) work();
  };
}

StatusOr<CallId> Node::BeginCall(const RefState& to, PendingCall call) {
  std::atomic<uint32_t>& window =
      to.cell != nullptr ? to.cell->calls_in_flight() : call.link->in_flight;
  if (window.fetch_add(1) >= limits::kCallsInFlight) {
    window.fetch_sub(1);
    const std::string whom = to.cell != nullptr ? "actor \"" + to.actor + "\"" : "node " + to.node;
    return ResourceExhausted(std::to_string(limits::kCallsInFlight) + " calls to " + whom +
                             " have no answer yet: wait for some")
        .WithOutcome(Outcome::kNotExecuted);
  }
  call.window = &window;
  call.window_owner = to.cell != nullptr ? std::shared_ptr<void>(to.cell) : call.link;
  const Time deadline = call.deadline;
  const CallId id = calls_.Add(&call);
  if (id.value == 0) {
    window.fetch_sub(1);
    return ShutDown();
  }
  reactor_->WakeAt(deadline);
  return id;
}

Future<Value> Node::Call(const RefState& to, std::string method, Value body, CallOptions options) {
  const std::shared_ptr<Link> link = to.link == nullptr ? nullptr : to.link->room->WayOf(to.link);
  return CallBy(link, to, std::move(method), std::move(body), options);
}

Future<Value> Node::CallBy(const std::shared_ptr<Link>& link, const RefState& to,
                           std::string method, Value body, CallOptions options) {
  const Status named = CheckMethod(method);
  if (!named.ok()) return MakeReady<Value>(named);
  PendingCall call{.promise = Promise<Value>(Runner())};
  call.what = to.node + ":" + to.actor + "." + method;
  const Status in_time = SetDeadline(options, &call);
  if (!in_time.ok()) return MakeReady<Value>(in_time);
  call.link = link;
  call.idempotent = options.idempotent;
  call.envelope.kind = FrameKind::kCall;
  call.envelope.from = CurrentSender();
  call.envelope.to = {to.actor, to.incarnation};
  call.envelope.control = options.control;
  call.envelope.idempotent = options.idempotent;
  if (to.cell != nullptr) return CallLocal(to, std::move(call), std::move(method), std::move(body));
  call.envelope.method = std::move(method);
  return CallRemote(to, std::move(call), std::move(body));
}

Status Node::SetDeadline(const CallOptions& options, PendingCall* call) {
  constexpr Duration kLongest = std::chrono::hours(24 * 30);
  call->limit = std::min<Duration>(options.deadline, kLongest);
  call->deadline = Now() + call->limit;
  if (call->limit > Duration(0)) return OkStatus();
  return DeadlineExceeded("call of " + call->what + ": its deadline is over before it is sent")
      .WithOutcome(Outcome::kNotExecuted);
}

void Node::CancelCall(CallId id, const Link* link) {
  auto call = calls_.Take(id, link);
  if (!call) return;
  const Outcome outcome = call->sent ? Outcome::kMaybeExecuted : Outcome::kNotExecuted;
  const Status status = Cancelled("the caller cancelled the call of " + call->what);
  CallTable::Resolve(std::move(*call), status.WithOutcome(outcome));
}

// `promise` is the call's, which lives in the table until it has a result.
void Node::LetCancel(const Promise<Value>& promise, CallId id, const std::shared_ptr<Link>& link) {
  promise.OnCancel([weak = weak_from_this(), id, link] {
    if (const auto node = weak.lock()) node->CancelCall(id, link.get());
  });
}

Future<Value> Node::CallLocal(const RefState& to, PendingCall call, std::string method,
                              Value body) {
  const Promise<Value> promise = *call.promise;
  const Future<Value> future = promise.future();
  const Time deadline = call.deadline;
  const bool control = call.envelope.control;
  const StatusOr<CallId> id = BeginCall(to, std::move(call));
  if (!id.ok()) return MakeReady<Value>(id.status());
  LetCancel(promise, *id, nullptr);
  Cell::Mail mail;
  if (Cell* sender = Cell::Current()) mail.message.from = sender->Ref();
  mail.message.method = std::move(method);
  mail.message.body = std::move(body);
  mail.message.responder = Responder(std::make_unique<LocalReply>(shared_from_this(), *id));
  mail.message.deadline = deadline;
  mail.message.control = control;
  (void)to.cell->Push(std::move(mail));  // what it refuses it answers
  return future;
}

Future<Value> Node::CallRemote(const RefState& to, PendingCall call, Value body) {
  const std::shared_ptr<Link> link = call.link;
  const bool may_wait = call.idempotent && !link->is_gone();
  if (!link->is_usable() && !may_wait) return MakeReady<Value>(WhyNot(*link));
  WireBody encoded;
  const Status fits = EncodeBody(body, link->ranges, &encoded);
  if (!fits.ok()) return MakeReady<Value>(fits);
  if (call.idempotent) {
    const size_t room = Outgoing::kEnvelopeBytes + encoded.size();
    if (!link->Keep(room)) return MakeReady<Value>(TooMuchWaits(to.node));
    call.room = TakenBytes({link, &link->kept_bytes}, room);
    call.body = encoded.Share();
  }
  Envelope envelope = call.envelope;
  envelope.deadline_ms = std::max<int64_t>(1, ToMilliseconds(call.deadline - Now()));
  const Promise<Value> promise = *call.promise;
  const Future<Value> future = promise.future();
  const StatusOr<CallId> id = BeginCall(to, std::move(call));
  if (!id.ok()) return MakeReady<Value>(id.status());
  LetCancel(promise, *id, link);
  envelope.call_id = *id;
  Outgoing message{link, std::move(envelope), std::move(encoded), *id, CallId()};
  if (link->Reserve(message.bytes())) {
    // When the reactor has stopped, Shutdown cancels the call.
    reactor_->Send(std::move(message), link->in_flight.load() == 1);
  } else if (auto refused = calls_.Take(*id, link.get())) {
    CallTable::Resolve(std::move(*refused), TooMuchWaits(to.node));
  }
  return future;
}

void Node::SendReply(const std::shared_ptr<Link>& link, Envelope envelope, Value body,
                     CallId cached_as, bool is_last) {
  Outgoing reply{link, std::move(envelope), WireBody(), CallId(), cached_as};
  const Status fits = EncodeBody(body, link->ranges, &reply.body);
  if (!fits.ok()) {
    reply.envelope.status = fits.WithContext("the reply").WithOutcome(Outcome::kExecuted);
  }
  // It was asked for, and is not lost for want of room: instead the peer may not ask for more.
  const size_t ranges = reply.body.range_bytes();
  if (ranges > 0) {
    link->room->owed_bytes.fetch_add(ranges);
    const TakenBytes::Counter counter(link->room, &link->room->owed_bytes);
    reply.owed = std::make_unique<TakenBytes>(counter, ranges);
  }
  if (link->Reserve(reply.bytes())) {
    reactor_->Send(std::move(reply), is_last);
    return;
  }
  // Shared, because a std::function is copyable.
  reactor_->Post([dropped = std::make_shared<Outgoing>(std::move(reply))](Peers& peers) {
    peers.SendLate(std::move(*dropped));
  });
}

}  // namespace packcast::internal
