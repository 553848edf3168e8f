#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "protocol/frame.h"
#include "protocol/ids.h"
#include "protocol/limits.h"
#include "protocol/time.h"
#include "runtime/actor/actor_ref.h"
#include "runtime/actor/peer_room.h"
#include "runtime/actor/reply_cache.h"
#include "runtime/actor/wire_body.h"
#include "runtime/net/zmq_socket.h"

namespace packcast::internal {

class Cell;
class MessageTarget;
class Node;
struct Link;

// What a reference points to: an actor of this node (cell) or of another one (link), or a stand-in
// (target).
struct RefState {
  std::shared_ptr<Node> owner;
  std::string actor;
  std::string node;
  Incarnation incarnation;
  std::shared_ptr<Cell> cell;
  std::shared_ptr<Link> link;
  std::shared_ptr<MessageTarget> target = nullptr;  // then there is no owner, cell or link
};

// A message on its way to the reactor.
struct Outgoing {
  std::shared_ptr<Link> link;
  Envelope envelope;
  WireBody body;
  CallId call_id;    // not 0: a call of ours
  CallId cached_as;  // not 0: the reply to a call that may be repeated
  // Of a reply with byte ranges: then those take none of the queue.
  std::unique_ptr<TakenBytes> owed = nullptr;

  // About what it takes of the queue.
  size_t bytes() const {
    const size_t ranges = owed != nullptr ? 0 : body.range_bytes();
    return kEnvelopeBytes + envelope.status.message().size() + body.value.size() + ranges;
  }
  static constexpr size_t kEnvelopeBytes = 64;
};

enum class LinkState : int {
  kUp,
  kSuspect,
  kUnreachable,
  kDied,  // may turn out to be wrong: the same life can come back
  kLeft,  // said goodbye, or was replaced by a new life: final
};

// One other node's one life, as reached through one connection. Made by the reactor; kept alive by
// references to actors of that node. The fields say who may touch them.
struct Link {
  // Constant once published.
  std::string routing_id;  // at our ROUTER; "" when we connected to it
  std::string node;
  Incarnation incarnation;
  bool beats = false;
  bool batches = false;            // may be sent batches
  bool ranges = false;             // may be sent byte ranges apart from bodies
  std::shared_ptr<PeerRoom> room;  // of that life, over all of its links

  // Any thread.
  std::atomic<LinkState> state{LinkState::kUp};
  std::atomic<bool> connected{true};
  std::atomic<bool> has_died{false};  // and is not back: kLeft may follow kDied
  std::atomic<uint32_t> queued{0};    // handed to the reactor, not yet to ZeroMQ
  std::atomic<size_t> queued_bytes{0};
  std::atomic<uint32_t> in_flight{0};  // calls of ours without a result
  std::atomic<size_t> kept_bytes{0};   // of those of them that may be sent again
  // Of byte ranges that ZeroMQ has and has not written yet. Shared with it.
  const std::shared_ptr<std::atomic<size_t>> lent = std::make_shared<std::atomic<size_t>>(0);

  // Why it is not up.
  std::string cause() const {
    std::lock_guard lock(cause_mutex);
    return cause_text;
  }
  void set_cause(std::string cause) {
    std::lock_guard lock(cause_mutex);
    cause_text = std::move(cause);
  }
  mutable std::mutex cause_mutex;
  std::string cause_text;  // guarded by cause_mutex

  // The reactor's thread only.
  struct Watch {
    std::weak_ptr<Cell> watcher;
    ActorRef ref;
    Incarnation life;       // the last that is known; 0: none yet
    bool is_open = false;   // the peer must be asked what has become of it
    Incarnation linked_as;  // the life of the watcher that has told the peer of a link; 0: none
    // Of the news that it has not handled yet each shares this.
    std::shared_ptr<const char> waiting = std::make_shared<char>();
    // What it was told last; and what it was not, as too much waited already.
    LinkState told_state = LinkState::kUp;
    bool told_busy = false;
    bool missed_state = false;
    bool missed_busy = false;
    bool missed_restart = false;
  };
  net::ZmqSocket* dealer = nullptr;  // null at our ROUTER, or when its channel moved on
  Time last_heard;                   // later when this process has slept itself
  Time heard_at;                     // really
  Time lost_at;                      // when `connected` became false
  Time away_since;                   // the same, or later when this process has slept itself
  Time busy_until;                   // as it has said: until then its silence is no news
  std::string busy_why;              // the same
  uint64_t connection = 0;           // of its hello; 0: not counted
  std::deque<Outgoing> backlog;      // not yet with ZeroMQ, in order
  bool is_listed = false;            // among those with a backlog
  std::vector<Watch> watches;
  std::vector<Envelope> missed;  // goodbyes of actors that ended while it was silent
  bool has_questions = false;    // of a watch that is open
  ReplyCache replies;
  // Shared by the links of a life that was given up and is back, one after the other.
  struct Succession {
    std::weak_ptr<Link> last;
  };
  std::shared_ptr<Succession> succession;
  ActorRef last_sender;  // messages come in runs of one sender: saves making it again

  bool is_gone() const { return state.load() == LinkState::kLeft; }
  bool is_usable() const { return connected.load() && state.load() < LinkState::kUnreachable; }

  // Takes room for a message to the peer; false when too much waits already. Any thread.
  bool Reserve(size_t bytes) {
    const bool has_room = queued.fetch_add(1) < limits::kMailboxMessages;
    const bool has_bytes = queued_bytes.fetch_add(bytes) + bytes <= limits::kQueuedBytes;
    if (has_room && has_bytes) return true;
    Release(bytes);
    return false;
  }
  // The same for a call that is kept until it has a result, to be sent again. See TakenBytes.
  bool Keep(size_t bytes) {
    if (kept_bytes.fetch_add(bytes) + bytes <= limits::kQueuedBytes) return true;
    kept_bytes.fetch_sub(bytes);
    return false;
  }
  // Gives it back: the message has left, or never will.
  void Release(size_t bytes, uint32_t messages = 1) {
    queued.fetch_sub(messages);
    queued_bytes.fetch_sub(bytes);
  }
};

}  // namespace packcast::internal
