#include "runtime/actor/cell.h"

#include <algorithm>
#include <utility>

#include "protocol/codec.h"
#include "runtime/actor/guarded.h"
#include "runtime/actor/node.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

namespace packcast::internal {
namespace {

thread_local Cell* current_cell = nullptr;
// Who sent what this thread handles: one of the two, or neither.
thread_local Cell* current_sender = nullptr;
thread_local const ActorRef* current_far_sender = nullptr;

// Messages that one turn handles before other actors get the thread, and that it takes at once.
constexpr size_t kTurnTasks = 128;
constexpr size_t kChunkTasks = 32;

}  // namespace

// What waits in a mailbox. The cell outlives its tasks.
struct Cell::MailTask {
  Cell* cell;
  Mail mail;

  void Run(Actor& actor, Context& context) {
    Message& message = mail.message;
    if (message.deadline && *message.deadline <= Now()) {
      return Drop(DeadlineExceeded("the deadline passed in the mailbox"));
    }
    if (!message.responder.Begin()) return;  // cancelled
    if (mail.raw_body) {
      StatusOr<Value> body = DecodeBody(*mail.raw_body);
      if (!body.ok()) return DropMalformed(body.status());
      message.body = std::move(*body);
    }
    const ActorRef from = message.from;
    current_far_sender = &from;
    (void)Guarded(cell->name_, "OnMessage", [&] { actor.OnMessage(context, std::move(message)); });
  }

  void DropMalformed(const Status& why) {
    cell->node_->metrics().Get("malformed_bodies_total").Add();
    // Nobody else learns that a tell is lost.
    if (!mail.message.responder.valid() && cell->bad_body_log_.Allow(Now())) {
      LogWarning("actor \"", cell->name_, "\": dropped tell \"", mail.message.method, "\" from ",
                 mail.message.from.ToString(), ": ", why.message());
    }
    Drop(why.WithContext("body of \"" + mail.message.method + "\""));
  }

  void Drop(const Status& why) {
    mail.message.responder.Fail(why.WithOutcome(Outcome::kNotExecuted));
  }
};

struct Cell::TimerTask {
  Cell* cell;
  TimerId timer;

  void Run(Actor& actor, Context& context) {
    {
      std::lock_guard lock(cell->mutex_);
      if (cell->timers_.erase(timer) == 0) return;  // cancelled after it expired
    }
    (void)Guarded(cell->name_, "OnTimer", [&] { actor.OnTimer(context, timer); });
  }
  void Drop(const Status&) {}
};

struct Cell::PeerTask {
  // Monitors and links stay over restarts, and the news does not come again.
  static constexpr bool kOutlivesLife = true;

  Cell* cell;
  PeerEvent event;
  std::shared_ptr<const void> token;

  void Run(Actor& actor, Context& context) {
    (void)Guarded(cell->name_, "OnPeer", [&] { actor.OnPeer(context, event); });
    if (!cell->TakeNews(event)) return;
    context.Fail(PeerDied("linked " + event.ref.ToString() + " died: " + event.cause));
  }
  void Drop(const Status&) {}
};

struct Cell::WorkTask {
  Cell* cell;
  Work work;

  void Run(Actor&, Context& context) {
    (void)Guarded(cell->name_, "work", [&] { work(context); });
  }
  void Drop(const Status&) {}
};

Cell::Cell(std::shared_ptr<Node> node, std::string name, Incarnation incarnation,
           std::unique_ptr<Actor> actor, ActorFactory factory, SpawnOptions options)
    : node_(std::move(node)),
      name_(std::move(name)),
      factory_(std::move(factory)),
      options_(std::move(options)),
      catalog_(actor->Catalog()),
      incarnation_(incarnation.value),
      actor_(std::move(actor)),
      groups_(2 + options_.groups.size()),
      end_(HasStopped()) {
  lanes_.push_back({options_.concurrency, 0});
  const auto add_lane = [this](Group* group, int concurrency) {
    group->lane = lanes_.size();
    lanes_.push_back({concurrency, 0});
  };
  if (options_.concurrent_control) add_lane(&groups_[kControl], 1);
  for (size_t k = 0; k < options_.groups.size(); ++k) {
    add_lane(&groups_[2 + k], options_.groups[k].concurrency);
  }
  if (catalog_ == nullptr) return;
  for (const MethodCatalog::Method& method : catalog_->methods) {
    for (size_t k = 0; k < options_.groups.size(); ++k) {
      if (options_.groups[k].name == method.group) group_of_method_[method.name] = 2 + k;
    }
  }
}

Cell* Cell::Current() { return current_cell; }

ActorRef Cell::Ref() { return node_->RefTo(shared_from_this()); }

size_t Cell::GroupOf(std::string_view method) const {
  if (group_of_method_.empty()) return kDefault;
  const auto found = group_of_method_.find(method);
  return found == group_of_method_.end() ? kDefault : found->second;
}

bool Cell::TakesMail() const {
  switch (phase_) {
    case Phase::kRunning:
    case Phase::kBackoff: return true;
    case Phase::kEnding: return will_restart_;
    case Phase::kStopping:
    case Phase::kStopped: return false;
  }
  return false;
}

Status Cell::Push(Mail mail) {
  if (mail.message.method.starts_with('$')) return OnReserved(std::move(mail));
  const size_t group = mail.message.control ? kControl : GroupOf(mail.message.method);
  return Push(Task(MailTask{this, std::move(mail)}), group);
}

Status Cell::Push(Task task, size_t group) {
  Status refused;
  bool is_turn_due = false;
  {
    std::lock_guard lock(mutex_);
    if (!TakesMail()) {
      refused = end_;
    } else if (groups_[group].queue.size() >= options_.mailbox_messages) {
      refused = ResourceExhausted("the mailbox of actor \"" + name_ + "\" is full (" +
                                  std::to_string(options_.mailbox_messages) + " messages)")
                    .WithOutcome(Outcome::kNotExecuted);
    } else {
      groups_[group].queue.push_back(std::move(task));
      if (group == kControl) ++interrupts_;
      is_turn_due = ClaimTurn(group);
    }
  }
  if (!refused.ok()) task.Drop(refused);
  // Without the lock: the thread that this wakes wants it first of all.
  if (is_turn_due && !PostTurn(group)) {
    std::lock_guard lock(mutex_);
    --groups_[group].posted;
  }
  return refused;
}

void Cell::PushInternal(Task task, size_t group, int life) {
  std::lock_guard lock(mutex_);
  if (task.outlives_life() ? !TakesMail() : phase_ != Phase::kRunning) return;
  if (life != 0 && life != life_) return;  // it knows an object that is gone
  groups_[group].queue.push_back(std::move(task));
  if (group == kControl) ++interrupts_;
  Schedule(group);
}

void Cell::PushPeer(PeerEvent event, std::shared_ptr<const void> token) {
  PushInternal(Task(PeerTask{this, std::move(event), std::move(token)}), kControl, 0);
}

void Cell::PushWork(Work work, bool control) {
  PushInternal(Task(WorkTask{this, std::move(work)}), control ? kControl : kDefault, 0);
}

void Cell::PushTimer(TimerId timer) {
  {
    std::lock_guard lock(mutex_);
    if (phase_ == Phase::kBackoff && timer == restart_timer_) return EndBackoff();
  }
  PushInternal(Task(TimerTask{this, timer}), kControl, 0);
}

bool Cell::ClaimTurn(size_t group) {
  const Lane& lane = lanes_[groups_[group].lane];
  // A turn that runs looks at the queues before it ends.
  if (groups_[group].posted + lane.running >= lane.concurrency) return false;
  ++groups_[group].posted;
  return true;
}

bool Cell::PostTurn(size_t group) {
  return node_->executor().Post(group == kControl,
                                [self = shared_from_this(), group] { self->Run(group); });
}

bool Cell::Schedule(size_t group) {
  if (!ClaimTurn(group)) return false;
  const bool is_posted = PostTurn(group);
  if (!is_posted) --groups_[group].posted;
  return is_posted;
}

void Cell::ScheduleAll() {
  for (size_t group = 0; group < groups_.size(); ++group) {
    if (!HasWork(group)) continue;
    // As many turns as may run at once: those asked for while a life began or waited for its
    // back-off found nothing to do.
    while (Schedule(group) && groups_[group].posted < std::ssize(groups_[group].queue)) continue;
  }
}

bool Cell::HasWork(size_t group) const {
  if (phase_ != Phase::kRunning && phase_ != Phase::kStopping) return false;
  // OnStart comes before everything.
  if (is_starting_) return needs_start_ && group == kControl;
  return !groups_[group].queue.empty();
}

bool Cell::Take(size_t token, Chunk* chunk) {
  const size_t lane = groups_[token].lane;
  const bool control_first = lane == groups_[kControl].lane && HasWork(kControl);
  chunk->group = control_first ? kControl : token;
  chunk->next = 0;
  chunk->interrupts = interrupts_.load();
  if (!HasWork(chunk->group)) return false;
  std::deque<Task>& queue = groups_[chunk->group].queue;
  // Others of the lane take their share.
  size_t count = lanes_[lane].concurrency > 1 ? 1 : kChunkTasks;
  for (; count > 0 && !queue.empty(); --count) {
    chunk->tasks.push_back(std::move(queue.front()));
    queue.pop_front();
  }
  chunks_.push_back(chunk);
  return true;
}

void Cell::RunChunk(Chunk* chunk, Actor* actor) {
  while (interrupts_.load() == chunk->interrupts) {
    const size_t k = chunk->next.fetch_add(1);
    if (k >= chunk->tasks.size()) return;
    Task& task = chunk->tasks[k];
    Cell* const outer = std::exchange(current_sender, task.sender().get());
    const ActorRef* const outer_far = std::exchange(current_far_sender, nullptr);
    (void)Guarded(name_, "a message", [&] { task.Run(*actor, *this); });
    current_sender = outer;
    current_far_sender = outer_far;
    task.Reset();  // what it holds goes without the lock
  }
}

void Cell::GiveBack(Chunk* chunk) {
  std::erase(chunks_, chunk);
  std::vector<Task>& tasks = chunk->tasks;
  std::deque<Task>& queue = groups_[chunk->group].queue;
  for (; tasks.size() > chunk->next; tasks.pop_back()) queue.push_front(std::move(tasks.back()));
  tasks.clear();
}

void Cell::Run(size_t token) {
  std::unique_lock lock(mutex_);
  Lane& lane = lanes_[groups_[token].lane];
  --groups_[token].posted;
  // Those who run look at the queues before they leave, and ask for another turn.
  if (lane.running >= lane.concurrency) return;
  ++lane.running;
  Cell* const outer = std::exchange(current_cell, this);
  if (token == kControl || groups_[kControl].lane == groups_[token].lane) {
    if (needs_start_ && phase_ != Phase::kEnding) {
      needs_start_ = false;
      lock.unlock();
      StartLife();
      lock.lock();
    }
  }
  Chunk chunk;
  for (size_t done = 0; done < kTurnTasks && Take(token, &chunk);) {
    done += chunk.tasks.size();
    Actor* const actor = actor_.get();
    lock.unlock();
    RunChunk(&chunk, actor);
    lock.lock();
    GiveBack(&chunk);
  }
  --lane.running;
  ScheduleAll();
  MaybeFinish(&lock);
  current_cell = outer;
}

ActorRef Cell::sender() const {
  // A sender that is no actor (a script, a thread of another process) has an empty name.
  if (current_far_sender != nullptr) {
    return current_far_sender->actor().empty() ? ActorRef() : *current_far_sender;
  }
  return current_sender == nullptr ? ActorRef() : current_sender->Ref();
}

ActorRef Cell::self() const { return const_cast<Cell*>(this)->Ref(); }
Time Cell::now() const { return Now(); }
Runtime& Cell::runtime() { return node_->runtime(); }

TimerId Cell::SetTimer(Time when) {
  // Under the lock: an immediate expiry must find the id in the set.
  std::lock_guard lock(mutex_);
  const TimerId timer = node_->AddTimer(when, weak_from_this());
  timers_.insert(timer);
  return timer;
}

void Cell::Cancel(TimerId timer) {
  node_->timers().Cancel(timer);
  std::lock_guard lock(mutex_);
  timers_.erase(timer);
}

std::function<void(Cell::Work)> Cell::Poster() {
  return [weak = weak_from_this(), life = life_.load()](Work work) {
    const auto cell = weak.lock();
    if (cell == nullptr) return;
    cell->PushInternal(Task(WorkTask{cell.get(), std::move(work)}), kControl, life);
  };
}

}  // namespace packcast::internal
