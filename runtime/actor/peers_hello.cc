// The part of Peers that says who may come in: hellos at our ROUTER.
#include "protocol/codec.h"
#include "protocol/limits.h"
#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/base/clock.h"

namespace packcast::internal {
namespace {

Status Superseded(const std::string& node) {
  return Stale("a later process was started as node \"" + node +
               "\", and of one name only the last counts: end this process, or start it again "
               "under a name of its own");
}

}  // namespace

Status Peers::NoIncarnation() {
  return InvalidArgument("hello without \"incarnation\", or with 0");
}

void Peers::RefuseMessage(const Source& source, const Envelope& envelope) {
  const Link* link = source.link.get();
  Envelope refused;
  refused.kind = FrameKind::kRefused;
  refused.to = envelope.from;
  refused.call_id = envelope.call_id;
  refused.status = FailedPrecondition("say hello first");
  if (link != nullptr && lives_.IsSuperseded(link->node, link->incarnation)) {
    refused.status = Superseded(link->node);
  }
  refused.status = refused.status.WithOutcome(Outcome::kNotExecuted);
  Answer(source, refused, Value());
}

// Tells a life that it is out. One that is frozen hears it when it thaws, or when it says hello.
void Peers::RefuseSuperseded(const Link& link) {
  Source source;
  source.routing_id = link.routing_id;
  Envelope refused;
  refused.kind = FrameKind::kRefused;
  refused.status = Superseded(link.node);
  Answer(source, refused, Value());
}

Status Peers::CheckHello(const Source& source, const Hello& hello) {
  const RuntimeOptions& options = node_->options();
  if (hello.incarnation.value == 0) return NoIncarnation();
  if (hello.cluster != options.cluster) {
    return FailedPrecondition("this node belongs to cluster \"" + options.cluster + "\", not \"" +
                              hello.cluster + "\"");
  }
  if (source.link == nullptr && links_.size() >= limits::kMembers) {
    return ResourceExhausted("this node has " + std::to_string(limits::kMembers) +
                             " peers already");
  }
  if (!hello.beats) return OkStatus();  // scripts may share a name
  // Last: it ends the earlier life.
  switch (lives_.Admit(hello.node, hello.incarnation, hello.earlier)) {
    case Lives::Verdict::kAdmitted: return OkStatus();
    case Lives::Verdict::kSuperseded: return Superseded(hello.node);
    case Lives::Verdict::kMustName: break;
  }
  return Unavailable("another process was here as node \"" + hello.node +
                     "\": say hello again, and name its incarnation as the earlier one");
}

std::shared_ptr<Link> Peers::MakeLink(const std::string& routing_id, const Hello& hello) {
  auto link = std::make_shared<Link>();
  link->routing_id = routing_id;
  link->node = hello.node;
  link->incarnation = hello.incarnation;
  link->beats = hello.beats;
  link->batches = hello.batches;
  link->ranges = hello.ranges;
  link->connection = hello.connection;
  link->last_heard = link->heard_at = Now();
  std::weak_ptr<PeerRoom>& room =
      hello.beats ? rooms_[{hello.node, hello.incarnation}] : rooms_[{routing_id, Incarnation()}];
  link->room = room.lock();
  if (link->room == nullptr) room = link->room = std::make_shared<PeerRoom>();
  std::erase_if(link->room->links, [](const auto& other) { return other.expired(); });
  link->room->links.push_back(link);
  return link;
}

void Peers::Inherit(const std::shared_ptr<Link>& old, const std::shared_ptr<Link>& link) {
  old->room->RemoveWay(old.get());
  link->replies = std::move(old->replies);
  if (old->succession == nullptr) old->succession = std::make_shared<Link::Succession>();
  link->succession = old->succession;
  link->succession->last = link;
}

std::shared_ptr<Link> Peers::LinkFor(const std::string& routing_id, const Hello& hello) {
  std::shared_ptr<Link>& slot = links_[routing_id];
  if (slot != nullptr && !slot->is_gone() && slot->node == hello.node &&
      slot->incarnation == hello.incarnation) {
    // The old connection may have been replaced while we slept, and its end gone unnoticed.
    const bool is_replaced = hello.connection != 0 && slot->connection != hello.connection;
    if (is_replaced || !slot->connected.load()) ForgetLoss(slot);
    slot->connection = hello.connection;
    slot->connected.store(true);
    SetState(slot, LinkState::kUp, "connected again");
    return slot;
  }
  const std::shared_ptr<Link> link = MakeLink(routing_id, hello);
  std::vector<std::shared_ptr<Link>> replaced;
  if (slot != nullptr) {
    replaced.push_back(slot);
    // Given up by us, and back: what it has called already does not run again.
    if (slot->incarnation == hello.incarnation) {
      Inherit(slot, link);
    }
  }
  slot = link;
  // A process that starts again under its name ends its earlier life. Scripts may share a name.
  for (const auto& [id, other] : links_) {
    const bool is_earlier_life = other != link && hello.beats && other->beats &&
                                 other->node == hello.node &&
                                 other->incarnation != hello.incarnation;
    if (is_earlier_life) replaced.push_back(other);
  }
  for (const auto& old : replaced) {
    SetState(old, LinkState::kDied,
             EndOf(*old, "a new incarnation of " + old->node + " said hello"));
    SetState(old, LinkState::kLeft, old->cause());  // final: it cannot come back
    old->last_sender = ActorRef();
    node_->ForgetPeerProgress(*old);
    if (old->routing_id != routing_id) RefuseSuperseded(*old);
  }
  return link;
}

void Peers::OnHello(Source& source, const Envelope& envelope, std::string_view body) {
  if (source.channel != nullptr) return;  // only the side that connected says hello
  if (is_leaving_) return;
  const StatusOr<Value> value = Decode(body);
  const StatusOr<Hello> hello = value.ok() ? DecodeHello(*value) : value.status();
  Envelope answer;
  answer.kind = FrameKind::kRefused;
  answer.to = envelope.from;
  if (hello.ok()) answer.from.actor = hello->actor;
  answer.status = hello.ok() ? CheckHello(source, *hello) : hello.status();
  if (!answer.status.ok()) {
    Value holder;
    if (answer.status.code() == StatusCode::kUnavailable) {
      holder = ValueMap{};
      holder.Put("earlier", lives_.HolderOf(hello->node).value);
    }
    Answer(source, answer, holder);
    if (source.link == nullptr) NoteBad(source);
    return;
  }
  const auto cell = hello->actor.empty() ? nullptr : node_->FindCell(hello->actor);
  const std::shared_ptr<Link> link = LinkFor(source.routing_id, *hello);
  Welcome(source);
  if (!hello->actor.empty() && cell == nullptr) {
    answer.status = NotFound("no actor \"" + hello->actor + "\" at node " + node_->options().name +
                             "; there are: " + node_->ActorNames());
    Answer(source, answer, Value());
    return;
  }
  link->room->AddWay(link);
  Hello welcome;
  welcome.cluster = node_->options().cluster;
  welcome.node = node_->options().name;
  welcome.incarnation = node_->incarnation();
  welcome.beats = true;
  welcome.batches = true;
  welcome.ranges = true;
  welcome.beat_ms = ToMilliseconds(node_->options().beat_interval);
  welcome.actor = hello->actor;
  if (cell != nullptr) welcome.actor_incarnation = cell->incarnation();
  answer.kind = FrameKind::kWelcome;
  answer.from.incarnation = welcome.actor_incarnation;
  Answer(source, answer, EncodeHello(welcome));
}

}  // namespace packcast::internal
