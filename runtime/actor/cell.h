#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/ids.h"
#include "protocol/status.h"
#include "protocol/value.h"
#include "runtime/actor/actor.h"
#include "runtime/actor/link.h"
#include "runtime/actor/runtime.h"
#include "runtime/actor/task.h"
#include "runtime/base/log.h"
#include "runtime/net/zmq_socket.h"

namespace packcast::internal {

class Node;

// One actor with its mailbox, over all its lives. Each message belongs to a group, and runs on that
// group's lane, which handles so many at a time as the options say. Owned by its node (and by
// references to it); thread-safe but for the Context part, which only handlers of this actor call.
class Cell : public std::enable_shared_from_this<Cell>, private Context {
 public:
  // A message whose body is decoded only when its turn comes, off the reactor's thread.
  struct Mail {
    Message message;
    std::optional<WireBody> raw_body;
    HeldRoom room;  // of one from another process
  };
  // Indices of the groups that every actor has; those of the options follow.
  enum : size_t { kDefault = 0, kControl = 1 };

  // `factory` may be null: then there is one life only.
  Cell(std::shared_ptr<Node> node, std::string name, Incarnation incarnation,
       std::unique_ptr<Actor> actor, ActorFactory factory, SpawnOptions options);

  const std::string& name() const { return name_; }
  // Of the life that runs, or comes next.
  Incarnation incarnation() const { return Incarnation(incarnation_.load()); }
  // Whether one of its lives had it: references follow the actor from life to life.
  bool HadLife(Incarnation incarnation) const;
  // The past ones that it remembers, and the present one.
  std::vector<Incarnation> Lives() const;
  const SpawnOptions& options() const { return options_; }
  const MethodCatalog* catalog() const { return catalog_; }
  uint64_t progress() const { return progress_.load(std::memory_order_relaxed); }
  std::atomic<uint32_t>& calls_in_flight() { return calls_in_flight_; }

  // Asks for the turn that runs OnStart; a message before it does so as well.
  void Start();
  // Takes the message, or says why not (nothing of it has run then) after answering it with that.
  Status Push(Mail mail);
  Status Push(Task task, size_t group);
  // The group that runs `method`.
  size_t GroupOf(std::string_view method) const;
  // What the runtime itself sends; bounded by timers, monitors and calls in flight.
  void PushTimer(TimerId timer);
  // `token` goes once the event has been handled, or dropped.
  void PushPeer(PeerEvent event, std::shared_ptr<const void> token = nullptr);
  void PushWork(std::function<void(Context&)> work, bool control);

  // Takes no more mail; the rest is handled, then OnStop runs.
  void BeginStop();
  bool WaitStopped(Duration patience);
  // As BeginStop, but what is still queued is answered with `status` and not handled. Nobody who
  // watches is told.
  void Abandon(const Status& status);
  // Ends this life as Context::Fail does; there is no other one unless `may_restart`.
  void EndLife(const Status& why, bool may_restart);

  // `watcher` gets kDied or kLeft for `ref` when this actor ends, at once if it has; and
  // kRestarted.
  void AddWatcher(const std::shared_ptr<Cell>& watcher, const ActorRef& ref);
  void RemoveWatcher(const Cell* watcher);
  // This actor fails when `ref` dies, which it watches from now on.
  void AddLink(const ActorRef& ref);
  void RemoveLink(const ActorRef& ref);
  // `child` is stopped when the present life ends.
  void Adopt(const std::shared_ptr<Cell>& child);

  // For people and scripts: state, queues, methods, labels. docs/protocol.md.
  Value Describe() const;
  // "running", "restarting" and so on.
  std::string StateName() const;

  // The cell whose handler runs on this thread, or null.
  static Cell* Current();
  ActorRef Ref();

 private:
  using Work = std::function<void(Context&)>;
  struct MailTask;
  struct TimerTask;
  struct PeerTask;
  struct WorkTask;
  enum class Phase {
    kRunning,
    kBackoff,   // between two lives: messages wait
    kStopping,  // handles the rest
    kEnding,    // the life has failed: waits for the handlers that run
    kStopped,
  };
  struct Group {
    std::deque<Task> queue;
    size_t lane = 0;
    int posted = 0;  // turns of this group that wait in the executor
  };
  // What a turn has taken out of a queue. Whoever moves `next` past a task has it: the turn, to run
  // it, or the end of the life, which does not wait for a handler that takes long.
  struct Chunk {
    size_t group = 0;
    uint64_t interrupts = 0;  // as they were when it was taken
    std::vector<Task> tasks;
    std::atomic<size_t> next{0};
  };
  struct Lane {
    int concurrency = 1;
    int running = 0;
  };
  struct Watcher {
    std::weak_ptr<Cell> cell;
    ActorRef ref;
  };

  // Context.
  ActorRef self() const override;
  ActorRef sender() const override;
  Time now() const override;
  Runtime& runtime() override;
  Future<ActorRef> Connect(const std::string& endpoint, const std::string& actor,
                           Duration timeout) override {
    return runtime().ConnectAsync(endpoint, actor, timeout);
  }
  TimerId SetTimer(Time when) override;
  void Cancel(TimerId timer) override;
  void Monitor(const ActorRef& ref) override;
  void Demonitor(const ActorRef& ref) override;
  void Fail(Status why) override { EndLife(why, true); }
  void Stop() override { BeginStop(); }
  void Link(const ActorRef& ref) override;
  void Unlink(const ActorRef& ref) override;
  int life() const override { return life_.load(); }
  void ReportProgress(uint64_t counter) override { progress_ = counter; }
  void Post(Work work, bool control) override { PushWork(std::move(work), control); }
  std::function<void(Work)> Poster() override;

  // The news is handled: what it ends is forgotten. True: one that is linked has died.
  bool TakeNews(const PeerEvent& event);
  bool IsLinked(const ActorRef& ref) const;  // needs mutex_; so do these
  bool IsMonitored(const ActorRef& ref) const;
  bool ForgetMonitored(const ActorRef& ref);
  void NoteMonitored(const ActorRef& ref);
  Value Fate() const;  // docs/protocol.md, "$fate"
  // Answers what every actor understands.
  Status OnReserved(Mail mail);
  static Status Refuse(Message* message, const Status& why);
  // Of `life`; 0: whichever runs.
  void PushInternal(Task task, size_t group, int life);
  // Needs mutex_: asks the executor for a turn of `group`, unless as many come as may run; whether
  // it has. In two steps too: whether to ask; then, which may go without the mutex, to ask. False:
  // there are no turns any more, so the claim is to be taken back.
  bool Schedule(size_t group);
  bool ClaimTurn(size_t group);
  bool PostTurn(size_t group);
  void ScheduleAll();
  bool TakesMail() const;
  // Needs mutex_. What a turn of `group` may handle now: on a shared lane a default turn handles
  // control messages too, and first, but a control turn nothing else, as it may have the
  // executor's control thread.
  bool HasWork(size_t group) const;
  bool Take(size_t token, Chunk* chunk);  // needs mutex_; so does GiveBack
  void GiveBack(Chunk* chunk);
  void Run(size_t token);
  void RunChunk(Chunk* chunk, Actor* actor);
  void StartLife();
  // Needs mutex_, which it lets go for a moment.
  void BeginEnd(const Status& why, bool may_restart, bool is_death,
                std::unique_lock<std::mutex>* lock);
  std::string StateNameLocked() const;  // needs mutex_
  Status HasStopped() const;
  bool HasRestartLeft();
  void EndBackoff();  // needs mutex_; so does BeginNextLife
  void BeginNextLife();
  // True: `parent` will hear of it by OnChildFinished; else this has finished already.
  bool PromiseFinish(const std::shared_ptr<Cell>& parent);
  void OnChildFinished();
  Duration NextBackoff();  // needs mutex_; counts a restart
  // `elsewhere`: on the executor, as what is dropped may run users' code.
  void DropQueued(const Status& why, std::unique_lock<std::mutex>* lock, bool elsewhere = false);
  void MaybeFinish(std::unique_lock<std::mutex>* lock);
  void FinishLife(std::unique_lock<std::mutex>* lock);
  Status LeftOpen() const;
  void TellWatchers(PeerEvent::Kind kind, const std::string& cause, bool are_done);

  const std::shared_ptr<Node> node_;
  const std::string name_;
  const ActorFactory factory_;
  const SpawnOptions options_;
  const MethodCatalog* const catalog_;
  std::map<std::string, size_t, std::less<>> group_of_method_;  // but for the default group's
  std::atomic<uint64_t> incarnation_;
  std::atomic<int> life_{1};
  std::atomic<uint64_t> progress_{0};
  std::atomic<uint32_t> calls_in_flight_{0};
  // Grows when a turn should look at the queues again before it goes on with what it took.
  std::atomic<uint64_t> interrupts_{0};
  LogLimiter bad_body_log_;

  // Held over a change of what this actor watches, and what it causes elsewhere: so that the last
  // one counts there, too. Taken before any cell's mutex_.
  std::mutex watching_;

  mutable std::mutex mutex_;
  std::condition_variable stopped_;
  std::unique_ptr<Actor> actor_;  // changes only while no lane runs
  std::vector<Group> groups_;
  std::vector<Lane> lanes_;
  std::vector<Chunk*> chunks_;  // of the turns that run
  Phase phase_ = Phase::kRunning;
  bool needs_start_ = true;   // a control turn begins the life
  bool is_starting_ = true;   // OnStart has not ended yet
  bool has_begun_ = false;    // OnStart was called: so OnStop will be
  bool is_leaving_ = false;   // OnStop or what follows runs
  bool is_finished_ = false;  // nothing of the actor is left
  bool will_restart_ = false;
  // Why it ends: what callers and watchers are told.
  Status end_;
  bool is_death_ = false;      // rather than an orderly stop
  std::string restart_cause_;  // why the last life ended, for kRestarted
  std::vector<Incarnation> past_lives_;
  Time life_began_;
  int restarts_ = 0;  // since the last healthy life
  TimerId restart_timer_;
  std::set<TimerId> timers_;
  std::vector<Watcher> watchers_;
  std::vector<ActorRef> links_;
  // For which Monitor was asked, by name: a link that goes leaves them watched.
  std::multimap<std::string, ActorRef> monitored_;
  std::vector<std::weak_ptr<Cell>> children_;
  // A next life may use the names of the last one's children: it waits for them, not for ever.
  size_t ending_children_ = 0;
  bool waits_for_children_ = false;   // the back-off is over
  std::weak_ptr<Cell> ended_parent_;  // which may wait so for this one
};

}  // namespace packcast::internal
