#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "runtime/actor/call_table.h"
#include "runtime/actor/cell.h"
#include "runtime/actor/executor.h"
#include "runtime/actor/fates.h"
#include "runtime/actor/link.h"
#include "runtime/actor/reactor.h"
#include "runtime/actor/runtime.h"
#include "runtime/actor/timer_queue.h"
#include "runtime/base/metrics.h"

namespace packcast::internal {

// What a Runtime is inside: actors by name, calls in flight, timers, executor and reactor. Owned by
// its Runtime, and kept alive (but empty) by references after Shutdown. Thread-safe.
class Node : public std::enable_shared_from_this<Node> {
 public:
  Node(RuntimeOptions options, Incarnation incarnation);
  ~Node();

  static Status CheckOptions(const RuntimeOptions& options);
  Status Start();
  void Shutdown(Duration drain);

  const RuntimeOptions& options() const { return options_; }
  Incarnation incarnation() const { return incarnation_; }
  const std::string& endpoint() const { return reactor_->endpoint(); }
  // What actors have: there as long as the node, as a handler that is stuck may outlive the Runtime
  // that owns it.
  Runtime& runtime() { return runtime_; }
  Executor& executor() { return executor_; }
  Reactor& reactor() { return *reactor_; }
  TimerQueue& timers() { return timers_; }
  CallTable& calls() { return calls_; }
  Metrics& metrics() { return metrics_; }

  // Actors.
  StatusOr<ActorRef> Spawn(std::string name, std::unique_ptr<Actor> actor, ActorFactory factory,
                           SpawnOptions options);
  std::shared_ptr<Cell> FindCell(const std::string& name) const;
  std::vector<std::shared_ptr<Cell>> Cells() const;
  std::string ActorNames() const;
  // For scripts: docs/protocol.md, "$list".
  Value ListActors() const;
  // A cell has stopped: frees its name and tells the peers. kPeerDied: it was no orderly stop.
  void Forget(const std::shared_ptr<Cell>& cell, const Status& why);
  // For peers: docs/protocol.md, "$fate". kNotFound: nothing is known of such a life.
  StatusOr<Value> FateOf(const std::string& actor, Incarnation life) const;
  // Tells the peers that a new life has begun.
  void AnnounceRestart(const Cell& cell, const std::string& cause);
  // Makes `ref` fail when `other` does, or no longer.
  void BindLink(const ActorRef& ref, const ActorRef& other, bool on);
  Status Kill(const ActorRef& ref, bool restart);
  ActorRef RefTo(const std::shared_ptr<Cell>& cell);
  void Monitor(const std::shared_ptr<Cell>& watcher, const ActorRef& ref, bool on);
  TimerId AddTimer(Time when, std::weak_ptr<Cell> cell);

  // Messages out.
  Status Tell(const RefState& to, std::string method, Value body, TellOptions options);
  Status Tell(const RefState& to, std::string method, const SharedBody& body, TellOptions options);
  Future<Value> Call(const RefState& to, std::string method, Value body, CallOptions options);
  // By this one of the connections with its peer; null: it is local.
  Future<Value> CallBy(const std::shared_ptr<Link>& link, const RefState& to, std::string method,
                       Value body, CallOptions options);
  // Takes a place in the callee's window and registers the call.
  StatusOr<CallId> BeginCall(const RefState& to, PendingCall call);
  // Resolves a call to kCancelled, unless it has a result.
  void CancelCall(CallId id, const Link* link);
  // Gives the call its deadline; kDeadlineExceeded when that is over before it begins.
  static Status SetDeadline(const CallOptions& options, PendingCall* call);
  // Runs callbacks of futures on the executor.
  CallbackRunner Runner();
  // Hands a reply to the reactor. `is_last`: the peer has no other call without an answer.
  void SendReply(const std::shared_ptr<Link>& link, Envelope envelope, Value body, CallId cached_as,
                 bool is_last);

  // Progress counters that beats brought.
  void SetPeerProgress(const Link& link, std::map<std::string, uint64_t> counters);
  void ForgetPeerProgress(const Link& link);
  std::optional<uint64_t> PeerProgress(const RefState& ref) const;
  uint64_t NextBusyPeriod() { return ++last_busy_; }

 private:
  StatusOr<std::shared_ptr<Cell>> Register(std::string name, std::unique_ptr<Actor> actor,
                                           ActorFactory factory, SpawnOptions options);
  bool IsUnused(const std::string& name);
  void CancelCalls();
  // Why nothing can be sent over `link` now.
  Status WhyNot(const Link& link) const;
  void LetCancel(const Promise<Value>& promise, CallId id, const std::shared_ptr<Link>& link);
  Status SendTell(const RefState& to, std::string method, Value body, TellOptions options);
  Status SendTellBy(const std::shared_ptr<Link>& link, const RefState& to, std::string method,
                    WireBody&& body, TellOptions options);
  void AnnounceEnd(const Cell& cell, const Status& why, Incarnation next);
  Future<Value> CallLocal(const RefState& to, PendingCall call, std::string method, Value body);
  Future<Value> CallRemote(const RefState& to, PendingCall call, Value body);

  const RuntimeOptions options_;
  const Incarnation incarnation_;
  Runtime runtime_;
  Metrics metrics_;
  TimerQueue timers_;
  CallTable calls_;
  Executor executor_;
  std::unique_ptr<Reactor> reactor_;

  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Cell>, std::less<>> cells_;
  std::unordered_set<std::string> used_names_;  // by actors
  Fates fates_;
  bool is_down_ = false;  // spawns nothing any more
  std::atomic<uint64_t> last_busy_{0};
  mutable std::mutex progress_mutex_;
  std::map<const Link*, std::map<std::string, uint64_t>> peer_progress_;
};

}  // namespace packcast::internal
