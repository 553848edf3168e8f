#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "protocol/frame.h"
#include "protocol/ids.h"
#include "protocol/time.h"
#include "protocol/value.h"
#include "runtime/actor/future.h"
#include "runtime/actor/link.h"

namespace packcast::internal {

// A call of ours that has no result yet.
struct PendingCall {
  std::optional<Promise<Value>> promise;
  // Of a typed call within the process, instead of `promise`: told why there is no result.
  std::function<void(const Status&)> fail;
  Time deadline;
  Duration limit{};            // from its begin to its deadline
  std::string what;            // "worker/0:sink.install", for errors
  std::shared_ptr<Link> link;  // null for local calls
  std::shared_ptr<void> window_owner;
  std::atomic<uint32_t>* window = nullptr;  // in `window_owner`; counts this call
  bool sent = false;                        // may have run: it has left, or its handler has begun
  // For calls that are sent again.
  bool idempotent = false;
  Envelope envelope;
  WireBody body;
  TakenBytes room;  // of the link's kept_bytes
};

// All calls of a node that wait for a result. Whoever takes an entry out resolves it: that is why
// each call resolves exactly once. Thread-safe.
class CallTable {
 public:
  // The call's id; 0 after Close, with `call` left as it was.
  CallId Add(PendingCall* call);
  // Takes one out, if it is still there and goes to `link` (null: a local call).
  std::optional<PendingCall> Take(CallId id, const Link* link);
  // The same, only if it was sent.
  std::optional<PendingCall> TakeSent(CallId id, const Link* link);
  std::vector<PendingCall> TakeExpired(Time now);
  // Those to `link`; with `keep_idempotent`, only those that are not sent again.
  std::vector<PendingCall> TakeLink(const Link* link, bool keep_idempotent);
  // Takes all, and takes no more in.
  std::vector<PendingCall> Close();
  bool is_closed() const;
  std::optional<Time> NextDeadline() const;

  // The call is about to leave; false when it has a result already and must not be sent.
  bool MarkSent(CallId id);
  // It did not leave after all.
  void MarkUnsent(CallId id);
  bool IsIdempotent(CallId id) const;
  // Messages for all idempotent calls to `link`, oldest first, to be sent again.
  std::vector<Outgoing> Repeat(const std::shared_ptr<Link>& link, Time now);

  // For a call that was taken out and is resolved elsewhere.
  static void FreeWindow(const PendingCall& call);
  // Resolves and gives the window's place back.
  static void Resolve(PendingCall call, StatusOr<Value> result);

 private:
  using Map = std::unordered_map<uint64_t, PendingCall>;
  PendingCall Extract(Map::iterator entry);

  mutable std::mutex mutex_;
  Map calls_;
  std::set<std::pair<Time, uint64_t>> deadlines_;
  uint64_t last_id_ = 0;
  bool is_closed_ = false;
};

}  // namespace packcast::internal
