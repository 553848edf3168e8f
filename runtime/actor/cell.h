#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "protocol/ids.h"
#include "protocol/status.h"
#include "runtime/actor/actor.h"
#include "runtime/actor/runtime.h"
#include "runtime/base/log.h"
#include "runtime/net/zmq_socket.h"

namespace packcast::internal {

class Node;

// One actor with its mailbox. Runs at most one item per group at a time on the executor. Owned by
// its node (and by references to it); thread-safe but for the Context part, which only handlers of
// this actor call.
class Cell : public std::enable_shared_from_this<Cell>, private Context {
 public:
  // A message whose body is decoded only when its turn comes, off the reactor's thread.
  struct Mail {
    Message message;
    std::optional<net::Frame> raw_body;
  };

  Cell(std::shared_ptr<Node> node, std::string name, Incarnation incarnation,
       std::unique_ptr<Actor> actor, SpawnOptions options);

  const std::string& name() const { return name_; }
  Incarnation incarnation() const { return incarnation_; }
  uint64_t progress() const { return progress_.load(std::memory_order_relaxed); }
  std::atomic<uint32_t>& calls_in_flight() { return calls_in_flight_; }

  // Queues OnStart.
  void Start();
  // Takes the mail, or says why not (nothing of it has run then) and leaves it to the caller.
  Status Push(Mail* mail, bool control);
  // What the runtime itself sends; bounded by timers, monitors and calls in flight.
  void PushTimer(TimerId timer);
  void PushPeer(PeerEvent event);
  void PushWork(std::function<void(Context&)> work, bool control);

  // Takes no more mail; the rest is handled, then OnStop runs.
  void BeginStop();
  bool WaitStopped(Duration patience);
  // As BeginStop, but what is still queued is answered with `status` and not handled. Nobody who
  // watches is told.
  void Abandon(const Status& status);

  // `watcher` gets kLeft for `ref` when this actor stops; at once if it has.
  void AddWatcher(const std::shared_ptr<Cell>& watcher, const ActorRef& ref);
  void RemoveWatcher(const Cell* watcher);

  // The cell whose handler runs on this thread, or null.
  static Cell* Current();
  ActorRef Ref();

 private:
  using Work = std::function<void(Context&)>;
  using Item = std::variant<Mail, TimerId, PeerEvent, Work>;
  enum Group { kDefault = 0, kControl = 1 };
  enum class Phase { kNew, kRunning, kStopping, kStopped };
  struct Watcher {
    std::weak_ptr<Cell> cell;
    ActorRef ref;
  };

  // Context.
  ActorRef self() const override;
  Time now() const override;
  Runtime& runtime() override;
  TimerId SetTimer(Time when) override;
  void Cancel(TimerId timer) override;
  void Monitor(const ActorRef& ref) override;
  void Demonitor(const ActorRef& ref) override;
  void ReportProgress(uint64_t counter) override { progress_ = counter; }
  void Post(Work work, bool control) override { PushWork(std::move(work), control); }
  std::function<void(Work)> Poster() override;

  void PushInternal(Item item, bool control);
  // Needs mutex_: asks the executor to run `group`, unless it will anyway.
  void Schedule(Group group);
  // Which of our lanes serves `group`: both share one unless control is concurrent.
  Group LaneOf(Group group) const { return options_.concurrent_control ? group : kDefault; }
  void Run(Group token);
  void RunOnStart();
  // Stops without handling what is queued: it is answered with `why`, and so is what comes later.
  void Die(const Status& why);
  // Needs mutex_. What a turn with `token` may handle now: on a shared lane a default turn handles
  // control items too, and first, but a control turn nothing else, as it may have the executor's
  // control thread.
  bool HasWork(Group group) const;
  bool NextItem(Group token, Item* item);
  void Handle(Item item);
  void HandleMail(Mail mail);
  void MaybeFinish(std::unique_lock<std::mutex>* lock);

  const std::shared_ptr<Node> node_;
  const std::string name_;
  const Incarnation incarnation_;
  const SpawnOptions options_;
  std::atomic<uint64_t> progress_{0};
  std::atomic<uint32_t> calls_in_flight_{0};
  LogLimiter bad_body_log_;

  std::mutex mutex_;
  std::condition_variable stopped_;
  std::unique_ptr<Actor> actor_;
  std::deque<Item> queues_[2];
  bool is_posted_[2] = {false, false};   // a token of the group waits in the executor
  bool is_running_[2] = {false, false};  // per lane
  bool is_starting_ = true;              // OnStart has not ended yet
  Phase phase_ = Phase::kNew;
  Status end_;                // what callers and watchers are told once it stops
  bool is_finished_ = false;  // OnStop has returned and the actor is destroyed
  std::set<TimerId> timers_;
  std::vector<Watcher> watchers_;
};

}  // namespace packcast::internal
