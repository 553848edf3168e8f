#include "runtime/actor/node.h"

#include <algorithm>
#include <set>
#include <utility>

#include "protocol/codec.h"
#include "protocol/limits.h"
#include "runtime/actor/peers.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/random.h"

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

bool IsName(const std::string& name) { return !name.empty() && name.size() <= limits::kNameBytes; }

Status CheckMethod(const std::string& method) {
  if (IsName(method)) return OkStatus();
  return InvalidArgument("a method's name has 1 to " + std::to_string(limits::kNameBytes) +
                         " bytes")
      .WithOutcome(Outcome::kNotExecuted);
}

Status CheckSpawn(const SpawnOptions& options, bool has_factory, const MethodCatalog* catalog) {
  constexpr int kMostAtOnce = 1024;
  const auto is_many = [](int count) { return count >= 1 && count <= kMostAtOnce; };
  std::set<std::string> groups;
  bool is_good = is_many(options.concurrency);
  for (const GroupOptions& group : options.groups) {
    is_good = is_good && is_many(group.concurrency);
    const bool is_new = IsName(group.name) && groups.insert(group.name).second;
    if (!is_new || group.name == "control") {
      return InvalidArgument("\"" + group.name +
                             "\" cannot name a group: a name is neither empty, "
                             "\"control\" nor there twice");
    }
  }
  if (!is_good) return InvalidArgument("a concurrency is 1 to " + std::to_string(kMostAtOnce));
  if (options.mailbox_messages == 0) return InvalidArgument("a mailbox has room for 1 message");
  if (options.restart.max_restarts != 0 && !has_factory) {
    return InvalidArgument("max_restarts needs a factory that makes the next object");
  }
  if (options.restart.backoff < Duration(0)) return InvalidArgument("backoff is negative");
  for (const MethodCatalog::Method& method :
       catalog == nullptr ? std::vector<MethodCatalog::Method>() : catalog->methods) {
    if (method.group.empty() || groups.count(method.group) != 0) continue;
    return InvalidArgument("method \"" + method.name + "\" is in group \"" + method.group +
                           "\", which SpawnOptions::groups does not have");
  }
  return OkStatus();
}

StatusOr<net::Frame> EncodeBody(const Value& body) {
  if (body.is_nil()) return net::Frame();
  std::string bytes = Encode(body);
  if (bytes.size() <= limits::kControlFrameBytes) return net::Frame::Own(std::move(bytes));
  return InvalidArgument("a body of " + std::to_string(bytes.size()) + " bytes exceeds the limit " +
                         "of " + std::to_string(limits::kControlFrameBytes))
      .WithOutcome(Outcome::kNotExecuted);
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
  if (state == LinkState::kDied) status = PeerDied(text + " has died");
  if (state == LinkState::kLeft) status = PeerDied(text + " has left or was replaced");
  return status.WithOutcome(Outcome::kNotExecuted);
}

}  // namespace

Node::Node(RuntimeOptions options, Incarnation incarnation)
    : options_(std::move(options)),
      incarnation_(incarnation),
      executor_(options_.executor_threads),
      reactor_(std::make_unique<Reactor>(this)) {}

Node::~Node() = default;

Status Node::CheckOptions(const RuntimeOptions& options) {
  if (!IsName(options.name) || !IsName(options.cluster)) {
    return InvalidArgument("name and cluster must have 1 to " + std::to_string(limits::kNameBytes) +
                           " bytes");
  }
  if (options.executor_threads < 1 || options.executor_threads > 1024) {
    return InvalidArgument("executor_threads must be 1 to 1024");
  }
  if (options.beat_interval < Milliseconds(1) || options.suspect_after <= options.beat_interval ||
      options.unreachable_after < options.suspect_after) {
    return InvalidArgument(
        "it must hold: 1 ms <= beat_interval < suspect_after <= "
        "unreachable_after");
  }
  return OkStatus();
}

Status Node::Start(Runtime* runtime) {
  runtime_ = runtime;
  return reactor_->Start();
}

void Node::CancelCalls() {
  for (PendingCall& call : calls_.Close()) {
    const Outcome outcome = call.sent ? Outcome::kMaybeExecuted : Outcome::kNotExecuted;
    CallTable::Resolve(std::move(call), Cancelled("the runtime shut down").WithOutcome(outcome));
  }
}

void Node::Shutdown(Duration drain) {
  PC_CHECK(Cell::Current() == nullptr) << "an actor cannot shut its own runtime down";
  {
    std::lock_guard lock(mutex_);
    if (is_down_) return;
    is_down_ = true;
  }
  // After the drain, what is stuck in user code gets this much longer, now with its calls failed.
  constexpr Duration kGrace = Milliseconds(400);
  const auto wait_all = [this](Time until) {
    for (const auto& cell : Cells()) cell->WaitStopped(std::max(Duration(0), until - Now()));
  };
  for (const auto& cell : Cells()) cell->BeginStop();
  wait_all(Now() + drain);
  CancelCalls();
  for (const auto& cell : Cells()) cell->Abandon(Cancelled("the runtime shut down"));
  wait_all(Now() + kGrace);
  for (const auto& cell : Cells()) {
    LogError("node ", options_.name, ": actor ", cell->name(), " is stuck; left behind");
  }
  reactor_->Stop();
  if (!executor_.Stop(kGrace)) LogError("node ", options_.name, ": a thread is stuck in user code");
  std::map<std::string, std::shared_ptr<Cell>, std::less<>> cells;
  std::lock_guard lock(mutex_);
  cells.swap(cells_);
}

StatusOr<ActorRef> Node::Spawn(std::string name, std::unique_ptr<Actor> actor, ActorFactory factory,
                               SpawnOptions options) {
  if (!IsName(name) || actor == nullptr) {
    return InvalidArgument("an actor needs an object, and a name of 1 to " +
                           std::to_string(limits::kNameBytes) + " bytes");
  }
  PC_RETURN_IF_ERROR(CheckSpawn(options, factory != nullptr, actor->Catalog()));
  std::shared_ptr<Cell> cell;
  {
    std::lock_guard lock(mutex_);
    if (is_down_) return Cancelled("the runtime shut down");
    if (cells_.count(name) != 0) return AlreadyExists("there is an actor \"" + name + "\" already");
    const bool is_first_life = lives_[name]++ == 0;
    cell = std::make_shared<Cell>(shared_from_this(), name,
                                  is_first_life ? incarnation_ : RandomIncarnation(),
                                  std::move(actor), std::move(factory), std::move(options));
    cells_.emplace(std::move(name), cell);
  }
  Cell* const parent = Cell::Current();
  if (parent != nullptr && !cell->options().detached) parent->Adopt(cell);
  cell->Start();
  return RefTo(cell);
}

std::shared_ptr<Cell> Node::FindCell(const std::string& name) const {
  std::lock_guard lock(mutex_);
  const auto found = cells_.find(name);
  return found == cells_.end() ? nullptr : found->second;
}

std::vector<std::shared_ptr<Cell>> Node::Cells() const {
  std::vector<std::shared_ptr<Cell>> cells;
  std::lock_guard lock(mutex_);
  for (const auto& [name, cell] : cells_) cells.push_back(cell);
  return cells;
}

std::string Node::ActorNames() const {
  constexpr size_t kLongest = 1000;
  std::string names;
  for (const auto& cell : Cells()) {
    if (names.size() > kLongest) return names + ", ...";
    names += (names.empty() ? "" : ", ") + cell->name();
  }
  return names.empty() ? "none" : names;
}

Value Node::ListActors() const {
  ValueArray actors;
  for (const auto& cell : Cells()) {
    actors.push_back(ValueMap{{"name", cell->name()},
                              {"incarnation", cell->incarnation().value},
                              {"state", cell->StateName()}});
  }
  return actors;
}

void Node::Forget(const std::shared_ptr<Cell>& cell, const Status& why) {
  const std::vector<Incarnation> lives = cell->Lives();
  {
    std::lock_guard lock(mutex_);
    const auto found = cells_.find(cell->name());
    if (found != cells_.end() && found->second == cell) cells_.erase(found);
    fates_.Add(cell->name(), lives, why);
  }
  AnnounceEnd(*cell, why, Incarnation());
}

StatusOr<Value> Node::FateOf(const std::string& actor, Incarnation life) const {
  std::lock_guard lock(mutex_);
  const Status end = fates_.Find(actor, life);
  if (end.ok()) return NotFound("nothing is known of that life of an actor \"" + actor + "\"");
  const bool has_died = end.code() == StatusCode::kPeerDied;
  return Value(ValueMap{{"state", has_died ? "died" : "left"}, {"cause", end.message()}});
}

// References name any life of it: so all of them are told.
void Node::AnnounceEnd(const Cell& cell, const Status& why, Incarnation next) {
  reactor_->Post([name = cell.name(), lives = cell.Lives(), why, next](Peers& peers) {
    for (Incarnation life : lives) {
      if (life != next) peers.AnnounceEnd({name, life}, why, next);
    }
  });
}

void Node::AnnounceRestart(const Cell& cell, const std::string& cause) {
  AnnounceEnd(cell, Unavailable(cause), cell.incarnation());
}

void Node::BindLink(const ActorRef& ref, const ActorRef& other, bool on) {
  if (ref.state()->target != nullptr) return;
  if (ref.local()) {
    const auto& cell = ref.state()->cell;
    on ? cell->AddLink(other) : cell->RemoveLink(other);
    return;
  }
  // The other side learns who it is from the sender. Not sent: then the monitor tells why.
  (void)SendTell(*ref.state(), on ? "$link" : "$unlink", Value(), {.control = true});
}

Status Node::Kill(const ActorRef& ref, bool restart) {
  if (!ref.valid() || ref.state()->target != nullptr) {
    return InvalidArgument("no actor of a runtime is named");
  }
  if (!ref.local()) {
    return SendTell(*ref.state(), "$kill", ValueMap{{"restart", restart}}, {.control = true});
  }
  ref.state()->cell->EndLife(PeerDied("killed by " + options_.name), restart);
  return OkStatus();
}

ActorRef Node::RefTo(const std::shared_ptr<Cell>& cell) {
  return ActorRef(std::make_shared<RefState>(RefState{
      shared_from_this(), cell->name(), options_.name, cell->incarnation(), cell, nullptr}));
}

void Node::Monitor(const std::shared_ptr<Cell>& watcher, const ActorRef& ref, bool on) {
  if (!ref.valid() || ref.state()->target != nullptr) return;
  if (ref.local()) {
    const auto& cell = ref.state()->cell;
    on ? cell->AddWatcher(watcher, ref) : cell->RemoveWatcher(watcher.get());
    return;
  }
  reactor_->Post([watcher, ref, on](Peers& peers) {
    on ? peers.Watch(watcher, ref) : peers.Unwatch(watcher.get(), ref);
  });
}

TimerId Node::AddTimer(Time when, std::weak_ptr<Cell> cell) {
  const TimerId timer = timers_.Add(when, std::move(cell));
  reactor_->WakeAt(when);
  return timer;
}

Status Node::WhyNot(const Link& link) const {
  return calls_.is_closed() ? ShutDown() : Unusable(link);
}

Status Node::Tell(const RefState& to, std::string method, Value body, TellOptions options) {
  PC_RETURN_IF_ERROR(CheckMethod(method));
  return SendTell(to, std::move(method), std::move(body), options);
}

Status Node::SendTell(const RefState& to, std::string method, Value body, TellOptions options) {
  if (to.cell != nullptr) {
    Cell::Mail mail;
    if (Cell* sender = Cell::Current()) mail.message.from = sender->Ref();
    mail.message.method = std::move(method);
    mail.message.body = std::move(body);
    mail.message.control = options.control;
    return to.cell->Push(std::move(mail));
  }
  if (!to.link->is_usable()) return WhyNot(*to.link);
  Envelope envelope;
  envelope.kind = FrameKind::kTell;
  envelope.from = CurrentSender();
  envelope.to = {to.actor, to.incarnation};
  envelope.method = std::move(method);
  envelope.control = options.control;
  PC_ASSIGN_OR_RETURN(net::Frame frame, EncodeBody(body));
  Outgoing message{to.link, std::move(envelope), std::move(frame), CallId(), CallId()};
  if (!to.link->Reserve(message.bytes())) return TooMuchWaits(to.node);
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
      to.cell != nullptr ? to.cell->calls_in_flight() : to.link->in_flight;
  if (window.fetch_add(1) >= limits::kCallsInFlight) {
    window.fetch_sub(1);
    return ResourceExhausted(std::to_string(limits::kCallsInFlight) + " calls to " + call.what +
                             "'s peer are in flight already")
        .WithOutcome(Outcome::kNotExecuted);
  }
  call.window = &window;
  call.window_owner = to.cell != nullptr ? std::shared_ptr<void>(to.cell) : to.link;
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
  const Status named = CheckMethod(method);
  if (!named.ok()) return MakeReady<Value>(named);
  PendingCall call{.promise = Promise<Value>(Runner())};
  call.deadline = DeadlineOf(options);
  call.what = to.node + ":" + to.actor + "." + method;
  call.link = to.link;
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

Time Node::DeadlineOf(const CallOptions& options) {
  constexpr Duration kLongest = std::chrono::hours(24 * 30);
  return Now() + std::clamp<Duration>(options.deadline, Duration(0), kLongest);
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
  const bool may_wait = call.idempotent && !to.link->is_gone();
  if (!to.link->is_usable() && !may_wait) return MakeReady<Value>(WhyNot(*to.link));
  StatusOr<net::Frame> frame = EncodeBody(body);
  if (!frame.ok()) return MakeReady<Value>(frame.status());
  if (call.idempotent) call.body = frame->Share();
  Envelope envelope = call.envelope;
  envelope.deadline_ms = std::max<int64_t>(1, ToMilliseconds(call.deadline - Now()));
  const Promise<Value> promise = *call.promise;
  const Future<Value> future = promise.future();
  const StatusOr<CallId> id = BeginCall(to, std::move(call));
  if (!id.ok()) return MakeReady<Value>(id.status());
  LetCancel(promise, *id, to.link);
  envelope.call_id = *id;
  Outgoing message{to.link, std::move(envelope), std::move(*frame), *id, CallId()};
  if (to.link->Reserve(message.bytes())) {
    // When the reactor has stopped, Shutdown cancels the call.
    reactor_->Send(std::move(message), to.link->in_flight.load() == 1);
  } else if (auto refused = calls_.Take(*id, to.link.get())) {
    CallTable::Resolve(std::move(*refused), TooMuchWaits(to.node));
  }
  return future;
}

void Node::SendReply(const std::shared_ptr<Link>& link, Envelope envelope, Value body,
                     CallId cached_as, bool is_last) {
  StatusOr<net::Frame> frame = EncodeBody(body);
  if (!frame.ok()) {
    envelope.status = frame.status().WithContext("the reply").WithOutcome(Outcome::kExecuted);
    frame = net::Frame();
  }
  Outgoing reply{link, std::move(envelope), std::move(*frame), CallId(), cached_as};
  if (link->Reserve(reply.bytes())) {
    reactor_->Send(std::move(reply), is_last);
    return;
  }
  // Shared, because a std::function is copyable.
  reactor_->Post([dropped = std::make_shared<Outgoing>(std::move(reply))](Peers& peers) {
    peers.DropReply(*dropped);
  });
}

void Node::SetPeerProgress(const Link& link, std::map<std::string, uint64_t> counters) {
  std::lock_guard lock(progress_mutex_);
  peer_progress_[&link] = std::move(counters);
}

void Node::ForgetPeerProgress(const Link& link) {
  std::lock_guard lock(progress_mutex_);
  peer_progress_.erase(&link);
}

std::optional<uint64_t> Node::PeerProgress(const RefState& ref) const {
  if (ref.cell != nullptr) {
    const uint64_t progress = ref.cell->progress();
    return progress == 0 ? std::nullopt : std::optional(progress);
  }
  std::lock_guard lock(progress_mutex_);
  const auto link = peer_progress_.find(ref.link.get());
  if (link == peer_progress_.end()) return std::nullopt;
  const auto counter = link->second.find(ref.actor);
  if (counter == link->second.end()) return std::nullopt;
  return counter->second;
}

}  // namespace packcast::internal
