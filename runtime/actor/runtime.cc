#include "runtime/actor/runtime.h"

#include <cstdlib>
#include <utility>

#include "protocol/limits.h"
#include "runtime/actor/guarded.h"
#include "runtime/actor/names.h"
#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/base/clock.h"
#include "runtime/base/random.h"

namespace packcast {

StatusOr<std::unique_ptr<Runtime>> Runtime::Start(Options options) {
  // It would do what its parent does, and start a child that does so, too, and so on.
  if (std::getenv(internal::kChildMark) != nullptr) {
    return FailedPrecondition(
        "a Process has started this program, but its main did not begin with RunIfChild(classes)");
  }
  const Incarnation incarnation =
      options.incarnation.value != 0 ? options.incarnation : RandomIncarnation();
  PC_RETURN_IF_ERROR(internal::Node::CheckOptions(options));
  auto node = std::make_shared<internal::Node>(std::move(options), incarnation);
  std::unique_ptr<Runtime> runtime(new Runtime(node));
  PC_RETURN_IF_ERROR(node->Start());
  return runtime;
}

Runtime::Runtime(std::shared_ptr<internal::Node> node) : node_(std::move(node)) {}

Runtime::~Runtime() {
  const bool is_its_owner = node_.use_count() > 0;
  if (is_its_owner) Shutdown(Seconds(1));
}

const std::string& Runtime::name() const { return node_->options().name; }
const RuntimeOptions& Runtime::options() const { return node_->options(); }
const std::string& Runtime::endpoint() const { return node_->endpoint(); }
Incarnation Runtime::incarnation() const { return node_->incarnation(); }

StatusOr<ActorRef> Runtime::Spawn(std::string name, std::unique_ptr<Actor> actor,
                                  SpawnOptions options) {
  return node_->Spawn(std::move(name), std::move(actor), nullptr, std::move(options));
}

StatusOr<ActorRef> Runtime::Spawn(std::string name, ActorFactory factory, SpawnOptions options) {
  if (factory == nullptr) return InvalidArgument("actor \"" + name + "\" has no factory");
  std::unique_ptr<Actor> first;
  PC_RETURN_IF_ERROR(internal::Guarded(name, "factory", [&] { first = factory(); }));
  return node_->Spawn(std::move(name), std::move(first), std::move(factory), std::move(options));
}

Status Runtime::Kill(const ActorRef& ref, bool restart) { return node_->Kill(ref, restart); }

StatusOr<ActorRef> Runtime::Find(const std::string& name) const {
  const auto cell = node_->FindCell(name);
  if (cell == nullptr) return NotFound("no actor \"" + name + "\" here");
  return node_->RefTo(cell);
}

Status Runtime::Stop(const ActorRef& ref, Duration drain) {
  if (!ref.local()) {
    return InvalidArgument(
        ref.ToString() + " does not live in this process: Kill reaches it, or a method of its own");
  }
  const auto cell = ref.state()->cell;
  cell->BeginStop();
  if (internal::Cell::Current() != nullptr) return OkStatus();
  if (cell->WaitStopped(drain)) return OkStatus();
  return DeadlineExceeded("actor \"" + ref.actor() + "\" is still busy after " +
                          std::to_string(ToMilliseconds(drain)) + " ms; it stops when it is done");
}

void Runtime::ConnectInto(const std::string& endpoint, const std::string& actor, Duration timeout,
                          const Promise<ActorRef>& promise) {
  if (!internal::IsWireName(actor)) {
    promise.Set(InvalidArgument("the actor's name must have 1 to " +
                                std::to_string(limits::kNameBytes) + " bytes of UTF-8"));
    return;
  }
  const Time deadline = Now() + ClampedWait(timeout);
  const bool is_posted =
      node_->reactor().Post([endpoint, actor, deadline, promise](internal::Peers& peers) {
        peers.Connect(endpoint, actor, deadline, promise);
      });
  if (!is_posted) promise.Set(Cancelled("the runtime shut down"));
}

Future<ActorRef> Runtime::ConnectAsync(const std::string& endpoint, const std::string& actor,
                                       Duration timeout) {
  // Actors of one process need no connection.
  if (!endpoint.empty() && endpoint == this->endpoint()) {
    if (StatusOr<ActorRef> here = Find(actor); here.ok()) return MakeReady<ActorRef>(here);
  }
  const Promise<ActorRef> promise(node_->Runner());
  const Future<ActorRef> future = promise.future();
  ConnectInto(endpoint, actor, timeout, promise);
  if (endpoint != this->endpoint()) return future;
  // It has appeared meanwhile.
  return Map<ActorRef>(
      future, [node = node_->weak_from_this(), actor](const StatusOr<ActorRef>& far) {
        const auto owner = node.lock();
        const auto cell = owner == nullptr || !far.ok() ? nullptr : owner->FindCell(actor);
        return cell == nullptr ? far : StatusOr<ActorRef>(owner->RefTo(cell));
      });
}

StatusOr<ActorRef> Runtime::Connect(const std::string& endpoint, const std::string& actor,
                                    Duration timeout) {
  // The reactor ends it, with the better error; the rest is for a reactor that is starved.
  return ConnectAsync(endpoint, actor, timeout).Get(ClampedWait(timeout) + Seconds(2));
}

std::optional<uint64_t> Runtime::PeerProgress(const ActorRef& ref) const {
  if (!ref.valid()) return std::nullopt;
  return node_->PeerProgress(*ref.state());
}

void Runtime::ExpectPeerEnd(Incarnation peer) {
  node_->reactor().Post([peer](internal::Peers& peers) { peers.ExpectObituary(peer); });
}

void Runtime::PeerEnded(Incarnation peer, const std::string& cause) {
  node_->reactor().Post([peer, cause](internal::Peers& peers) { peers.Obituary(peer, cause); });
}

void Runtime::ForgetPeerEnd(Incarnation peer) {
  node_->reactor().Post([peer](internal::Peers& peers) { peers.ForgetObituary(peer); });
}

void Runtime::PeerHasOurKeys(const std::string& endpoint) {
  node_->reactor().Post([endpoint](internal::Peers& peers) { peers.HasOurKeys(endpoint); });
}

std::shared_ptr<Runtime> Runtime::Keep() const {
  return {node_->shared_from_this(), &node_->runtime()};
}

Value Runtime::Metrics() const { return node_->metrics().Snapshot(); }

void Runtime::Shutdown(Duration drain) { node_->Shutdown(ClampedWait(drain)); }

}  // namespace packcast
