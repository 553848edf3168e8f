#include "runtime/actor/node.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "protocol/codec.h"
#include "protocol/limits.h"
#include "runtime/actor/keys.h"
#include "runtime/actor/names.h"
#include "runtime/actor/peers.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/random.h"

namespace packcast::internal {
namespace {

// What an actor that handles several messages at once needs beside the threads of all.
int OwnThreads(const SpawnOptions& options) {
  int count = options.concurrency - 1;
  for (const GroupOptions& group : options.groups) count += group.concurrency;
  return count;
}

Status CheckSpawn(const SpawnOptions& options, bool has_factory, const MethodCatalog* catalog) {
  constexpr int kMostAtOnce = 1024;
  static const std::vector<MethodCatalog::Method> no_methods;
  const auto is_many = [](int count) { return count >= 1 && count <= kMostAtOnce; };
  std::set<std::string> groups;
  bool is_good = is_many(options.concurrency);
  for (const GroupOptions& group : options.groups) {
    is_good = is_good && is_many(group.concurrency);
    const bool is_new = IsWireName(group.name) && groups.insert(group.name).second;
    if (!is_new || group.name == "control") {
      return InvalidArgument("\"" + group.name +
                             "\" cannot name a group: a name is UTF-8, neither empty, "
                             "\"control\" nor there twice");
    }
  }
  if (!is_good) return InvalidArgument("a concurrency is 1 to " + std::to_string(kMostAtOnce));
  if (options.mailbox_messages == 0) return InvalidArgument("a mailbox has room for 1 message");
  if (options.restart.max_restarts != 0 && !has_factory) {
    return InvalidArgument("max_restarts needs a factory that makes the next object");
  }
  if (options.restart.backoff < Duration(0)) return InvalidArgument("backoff is negative");
  std::set<std::string_view> methods;
  for (const MethodCatalog::Method& method : catalog == nullptr ? no_methods : catalog->methods) {
    const bool is_name = IsWireName(method.name) && !method.name.starts_with('$');
    if (!is_name || !methods.insert(method.name).second) {
      return InvalidArgument("\"" + method.name + "\" cannot name a method: a name has 1 to " +
                             std::to_string(limits::kNameBytes) +
                             " bytes of UTF-8, does not begin with $ and is not added twice");
    }
    if (method.group.empty() || groups.count(method.group) != 0) continue;
    return InvalidArgument("method \"" + method.name + "\" is in group \"" + method.group +
                           "\", which this actor was spawned without: give its builder .Group(\"" +
                           method.group + "\"), or SpawnOptions::groups one");
  }
  return OkStatus();
}

}  // namespace

Node::Node(RuntimeOptions options, Incarnation incarnation)
    : options_(std::move(options)),
      incarnation_(incarnation),
      runtime_(std::shared_ptr<Node>(std::shared_ptr<Node>(), this)),
      reactor_(std::make_unique<Reactor>(this)) {}

Node::~Node() = default;

Status Node::CheckOptions(const RuntimeOptions& options) {
  if (!IsWireName(options.name) || !IsWireName(options.cluster)) {
    return InvalidArgument("name and cluster must have 1 to " + std::to_string(limits::kNameBytes) +
                           " bytes of UTF-8");
  }
  if (options.executor_threads < 1 || options.executor_threads >= Executor::kMostThreads) {
    return InvalidArgument("executor_threads must be 1 to " +
                           std::to_string(Executor::kMostThreads - 1));
  }
  if (options.beat_interval < Milliseconds(1) || options.suspect_after <= options.beat_interval ||
      options.unreachable_after < options.suspect_after) {
    const auto in_ms = [](Duration time) {
      return " (" + std::to_string(ToMilliseconds(time)) + " ms)";
    };
    return InvalidArgument("the times of beats do not go together: 1 ms <= beat_interval" +
                           in_ms(options.beat_interval) + " < suspect_after" +
                           in_ms(options.suspect_after) + " <= unreachable_after" +
                           in_ms(options.unreachable_after) + " does not hold");
  }
  if (options.max_connections < 1 || options.max_connections_per_address < 1 ||
      options.hello_timeout <= Duration(0)) {
    return InvalidArgument(
        "max_connections and max_connections_per_address must be at least 1, and hello_timeout "
        "more than 0");
  }
  return options.keys ? CheckKeys(*options.keys) : OkStatus();
}

Status Node::Start() {
  PC_RETURN_IF_ERROR(executor_.Start(options_.executor_threads));
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
  if (!IsWireName(name) || actor == nullptr) {
    return InvalidArgument("an actor needs an object, and a name of 1 to " +
                           std::to_string(limits::kNameBytes) + " bytes of UTF-8");
  }
  PC_RETURN_IF_ERROR(CheckSpawn(options, factory != nullptr, actor->Catalog()));
  const int threads = OwnThreads(options);
  PC_RETURN_IF_ERROR(executor_.AddThreads(threads));
  const StatusOr<std::shared_ptr<Cell>> cell =
      Register(std::move(name), std::move(actor), std::move(factory), std::move(options));
  if (!cell.ok()) {
    executor_.RemoveThreads(threads);
    return cell.status();
  }
  Cell* const parent = Cell::Current();
  if (parent != nullptr && !(*cell)->options().detached) parent->Adopt(*cell);
  (*cell)->Start();
  return RefTo(*cell);
}

StatusOr<std::shared_ptr<Cell>> Node::Register(std::string name, std::unique_ptr<Actor> actor,
                                               ActorFactory factory, SpawnOptions options) {
  std::lock_guard lock(mutex_);
  if (is_down_) return Cancelled("the runtime shut down");
  if (cells_.count(name) != 0) return AlreadyExists("there is an actor \"" + name + "\" already");
  auto cell = std::make_shared<Cell>(shared_from_this(), name,
                                     IsUnused(name) ? incarnation_ : RandomIncarnation(),
                                     std::move(actor), std::move(factory), std::move(options));
  cells_.emplace(std::move(name), cell);
  return cell;
}

// Needs mutex_. The first actor of a name has the node's incarnation. Who spawns actors of ever new
// names all day long gets incarnations of their own, once it would take too much to remember them.
bool Node::IsUnused(const std::string& name) {
  constexpr size_t kMost = 65536;
  if (used_names_.size() >= kMost) return false;
  return used_names_.insert(name).second;
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
  executor_.RemoveThreads(OwnThreads(cell->options()));
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
  reactor_->Post([ref, other, on](Peers& peers) { peers.NoteLink(other, ref, on); });
  // The other side learns who it is from the sender. Not sent: then the monitor tells why, and it
  // is said once the other side is back.
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
