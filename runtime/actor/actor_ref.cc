#include "runtime/actor/actor_ref.h"

#include <utility>

#include "protocol/codec.h"
#include "runtime/actor/actor.h"
#include "runtime/actor/link.h"
#include "runtime/actor/message_target.h"
#include "runtime/actor/node.h"

namespace packcast {
namespace {

const std::string& NoName() {
  static const std::string empty;
  return empty;
}

Status NoActor() {
  return FailedPrecondition("this reference names no actor").WithOutcome(Outcome::kNotExecuted);
}

}  // namespace

const std::string& ActorRef::actor() const { return state_ ? state_->actor : NoName(); }
const std::string& ActorRef::node() const { return state_ ? state_->node : NoName(); }
Incarnation ActorRef::incarnation() const { return state_ ? state_->incarnation : Incarnation(); }
bool ActorRef::local() const { return state_ && state_->cell != nullptr; }

std::string ActorRef::ToString() const {
  if (!valid()) return "nobody";
  return packcast::ToString(MemberId{node() + ":" + actor(), incarnation()});
}

Status ActorRef::Tell(std::string method, Value body, TellOptions options) const {
  if (!valid()) return NoActor();
  if (state_->target) return state_->target->Tell(std::move(method), std::move(body), options);
  return state_->owner->Tell(*state_, std::move(method), std::move(body), options);
}

Status ActorRef::Tell(std::string method, const SharedBody& body, TellOptions options) const {
  if (!valid()) return NoActor();
  if (!state_->target) return state_->owner->Tell(*state_, std::move(method), body, options);
  PC_ASSIGN_OR_RETURN(Value value, body.bytes()->empty() ? Value() : Decode(*body.bytes()));
  return state_->target->Tell(std::move(method), std::move(value), options);
}

Future<Value> ActorRef::Call(std::string method, Value body, CallOptions options) const {
  if (!valid()) return MakeReady<Value>(NoActor());
  if (state_->target) return state_->target->Call(std::move(method), std::move(body), options);
  return state_->owner->Call(*state_, std::move(method), std::move(body), options);
}

bool operator==(const ActorRef& a, const ActorRef& b) {
  if (a.state_ == b.state_) return true;
  if (!a.valid() || !b.valid()) return false;
  if (a.state_->target || b.state_->target) return a.state_->target == b.state_->target;
  if (a.local() || b.local()) return a.state_->cell == b.state_->cell;
  if (a.actor() != b.actor() || a.node() != b.node() || a.incarnation() != b.incarnation()) {
    return false;
  }
  // Scripts share names and may leave the incarnation out: then only the connection tells them
  // apart. With one, the actor is the same on every connection to that life of its process.
  const internal::Link& a_link = *a.state_->link;
  const internal::Link& b_link = *b.state_->link;
  return &a_link == &b_link ||
         (a.incarnation().value != 0 && a_link.incarnation == b_link.incarnation);
}

namespace internal {

ActorRef RefBeside(const ActorRef& known, std::string actor, Incarnation incarnation) {
  const RefState& state = *known.state();
  return ActorRef(std::make_shared<RefState>(
      RefState{state.owner, std::move(actor), state.node, incarnation, nullptr, state.link}));
}

ActorRef RefToTarget(std::shared_ptr<MessageTarget> target, std::string actor, std::string node,
                     Incarnation incarnation) {
  return ActorRef(
      std::make_shared<RefState>(RefState{nullptr, std::move(actor), std::move(node), incarnation,
                                          nullptr, nullptr, std::move(target)}));
}

}  // namespace internal

std::string_view PeerEventKindName(PeerEvent::Kind kind) {
  switch (kind) {
    case PeerEvent::Kind::kSuspect: return "suspect";
    case PeerEvent::Kind::kRecovered: return "recovered";
    case PeerEvent::Kind::kUnreachable: return "unreachable";
    case PeerEvent::Kind::kDied: return "died";
    case PeerEvent::Kind::kLeft: return "left";
    case PeerEvent::Kind::kRestarted: return "restarted";
    case PeerEvent::Kind::kBusy: return "busy";
    case PeerEvent::Kind::kFree: return "free";
  }
  return "unknown";
}

}  // namespace packcast
