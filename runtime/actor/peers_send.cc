// The part of Peers that sends: each link's queue, alone or in batches, and what becomes of
// messages that do not leave.
#include <cstdint>
#include <utility>

#include "protocol/limits.h"
#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"

namespace packcast::internal {
namespace {

// A batch ends once it has so many bytes or messages; longer bodies travel alone, without a copy.
constexpr size_t kBatchBytes = 32u << 10;
constexpr size_t kBatchMessages = 1024;
constexpr size_t kBatchedBodyBytes = 4096;

// Byte ranges that ZeroMQ has of one connection and has not written yet: with more than one message
// no more than this. What waits there is before our beats, and must not make us look dead.
constexpr size_t kLentBytes = limits::kApartTotalBytes;

// The link by which the same life of a peer is reached now.
std::shared_ptr<Link> HeirOf(const std::shared_ptr<Link>& link) {
  const auto last = link->succession == nullptr ? nullptr : link->succession->last.lock();
  return last == nullptr ? link : last;
}

}  // namespace

Status Peers::StatusFor(const Link& link) {
  const std::string text = "node " + link.node + ": " + link.cause();
  const LinkState state = link.state.load();
  if (state == LinkState::kDied || state == LinkState::kLeft) return PeerDied(text);
  return Unavailable(link.cause().empty() ? "node " + link.node + " is not connected" : text);
}

// The message is as it was, whatever became of it.
net::SendResult Peers::SendOn(Link* link, const Outgoing& message) {
  const size_t ranges = message.body.range_bytes();
  const size_t lent = ranges == 0 ? 0 : link->lent->load();
  if (lent > 0 && lent + ranges > kLentBytes) return net::SendResult::kFull;
  net::Frames frames;
  frames.reserve(3 + message.body.ranges().size());
  if (link->dealer == nullptr) {
    if (link->routing_id.empty()) return net::SendResult::kUnroutable;
    frames.emplace_back(std::string_view(link->routing_id));
  }
  frames.push_back(net::Frame(std::string_view(EncodeEnvelope(message.envelope))));
  frames.push_back(message.body.value.Share());
  for (const ByteRange& range : message.body.ranges()) {
    link->lent->fetch_add(range.size());
    frames.push_back(net::Frame::Borrow(
        range.bytes(), [lent = link->lent, range] { lent->fetch_sub(range.size()); }));
  }
  return SocketOf(*link).Send(&frames);
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
  size_t bytes = 0;  // of those
  for (const Outgoing& message : backlog) {
    const bool has_room = is_batch && batch_.bytes() < kBatchBytes && count < kBatchMessages &&
                          message.body.size() <= kBatchedBodyBytes;
    if (count > 0 && !has_room) break;
    ++count;
    bytes += message.bytes();
    // One that has a result already must not be sent.
    const bool is_call = message.call_id.value != 0;
    if (is_call && !node_->calls().MarkSent(message.call_id)) continue;
    if (is_batch) batch_.Add(message.envelope, message.body.value.view());
    // A message of its own is the first, or the next after calls that have expired.
    if (!is_batch) return FinishFront(link, count, bytes, SendOn(link.get(), backlog[count - 1]));
  }
  if (batch_.messages() == 0) return FinishFront(link, count, bytes, net::SendResult::kSent);
  Outgoing batch;
  batch.envelope.kind = FrameKind::kBatch;
  batch.body.value = net::Frame::Own(batch_.Take());
  return FinishFront(link, count, bytes, SendOn(link.get(), batch));
}

bool Peers::FinishFront(const std::shared_ptr<Link>& link, size_t count, size_t bytes,
                        net::SendResult result) {
  const auto each = [&](const std::function<void(const Outgoing&)>& visit) {
    for (size_t k = 0; k < count; ++k) visit(link->backlog[k]);
  };
  switch (result) {
    case net::SendResult::kSent: break;
    case net::SendResult::kFull:
    case net::SendResult::kLost: each([&](const Outgoing& m) { Unsend(m); }); return false;
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

void Peers::Transmit(Outgoing&& message) {
  if (message.cached_as.value != 0 && !Redirect(&message, true)) return DropReply(message);
  const std::shared_ptr<Link> link = message.link;
  if (message.cached_as.value != 0) {
    link->replies.Finish(message.cached_as, message.envelope, message.body);
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
  if (is_wanted && SendOn(link, *message) != net::SendResult::kSent) {
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
    reply.link->replies.Finish(reply.cached_as, reply.envelope, reply.body);
  }
  Shun(reply.link);
}

}  // namespace packcast::internal
