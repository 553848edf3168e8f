// The lives of an actor: how they begin and end, who is told, and whom they take along.
#include <algorithm>
#include <utility>

#include "runtime/actor/cell.h"
#include "runtime/actor/dropped.h"
#include "runtime/actor/guarded.h"
#include "runtime/actor/node.h"
#include "runtime/base/clock.h"
#include "runtime/base/random.h"

namespace packcast::internal {
namespace {

// References to earlier ones are stale.
constexpr size_t kRememberedLives = 64;

}  // namespace

bool Cell::HadLife(Incarnation incarnation) const {
  if (incarnation == this->incarnation()) return true;
  std::lock_guard lock(mutex_);
  return std::find(past_lives_.begin(), past_lives_.end(), incarnation) != past_lives_.end();
}

Status Cell::HasStopped() const {
  return NotFound("actor \"" + name_ + "\" has stopped").WithOutcome(Outcome::kNotExecuted);
}

std::vector<Incarnation> Cell::Lives() const {
  std::lock_guard lock(mutex_);
  std::vector<Incarnation> lives = past_lives_;
  lives.push_back(incarnation());
  return lives;
}

void Cell::Start() {
  std::lock_guard lock(mutex_);
  if (needs_start_) Schedule(kControl);
}

void Cell::StartLife() {
  Status started;
  if (actor_ == nullptr) {
    std::unique_ptr<Actor> made;
    started = Guarded(name_, "factory", [&] { made = factory_(); });
    if (started.ok() && made == nullptr) {
      started = Internal("actor \"" + name_ + "\": its factory made nothing");
    }
    // References trust that an actor is of one class.
    const auto type = [](const MethodCatalog* of) { return of == nullptr ? nullptr : of->type; };
    if (started.ok() && type(made->Catalog()) != type(catalog_)) {
      started = Internal("actor \"" + name_ + "\": its factory made another class than before");
    }
    std::lock_guard lock(mutex_);
    if (started.ok()) actor_ = std::move(made);
  }
  has_begun_ = started.ok();
  if (started.ok()) started = Guarded(name_, "OnStart", [&] { actor_->OnStart(*this); });
  if (!started.ok()) EndLife(started, true);
  std::string cause;
  {
    std::lock_guard lock(mutex_);
    is_starting_ = false;
    life_began_ = Now();
    ScheduleAll();
    if (life_ == 1 || phase_ != Phase::kRunning) return;
    cause = restart_cause_;
  }
  TellWatchers(PeerEvent::Kind::kRestarted, cause, /*are_done=*/false);
}

bool Cell::HasRestartLeft() {
  const RestartOptions& restart = options_.restart;
  if (factory_ == nullptr) return false;
  // A life that never began counts as short.
  if (!is_starting_ && Now() - life_began_ >= restart.healthy_after) restarts_ = 0;
  return restart.max_restarts < 0 || restarts_ < restart.max_restarts;
}

Duration Cell::NextBackoff() {
  const Duration most = ClampedWait(options_.restart.backoff_max);
  Duration wait = ClampedWait(options_.restart.backoff);
  for (int k = 0; k < restarts_ && wait < most; ++k) wait *= 2;
  ++restarts_;
  return std::min(wait, most);
}

void Cell::EndLife(const Status& why, bool may_restart) {
  std::unique_lock lock(mutex_);
  BeginEnd(why, may_restart, /*is_death=*/true, &lock);
}

void Cell::BeginEnd(const Status& why, bool may_restart, bool is_death,
                    std::unique_lock<std::mutex>* lock) {
  if (phase_ == Phase::kStopped) return;
  if (phase_ == Phase::kEnding && (may_restart || !will_restart_)) return;
  // One that is told to stop does not come back.
  const bool can_restart = phase_ == Phase::kRunning || phase_ == Phase::kBackoff;
  will_restart_ = may_restart && can_restart && HasRestartLeft();
  phase_ = Phase::kEnding;
  end_ = why.WithOutcome(Outcome::kNotExecuted);
  is_death_ = is_death;
  needs_start_ = false;
  ++interrupts_;
  Schedule(kControl);  // nothing that is queued brings the turn that finishes any more
  // Killed, it may be by the reactor.
  DropQueued(end_, lock, /*elsewhere=*/is_death && Current() == nullptr);
}

void Cell::DropQueued(const Status& why, std::unique_lock<std::mutex>* lock, bool elsewhere) {
  std::deque<Task> dropped;
  std::deque<Task> kept;
  const auto sort = [&](Task task) {
    (will_restart_ && task.outlives_life() ? kept : dropped).push_back(std::move(task));
  };
  // What turns have taken came first.
  for (Chunk* chunk : chunks_) {
    std::vector<Task>& tasks = chunk->tasks;
    for (size_t k = chunk->next.exchange(tasks.size()); k < tasks.size(); ++k) {
      sort(std::move(tasks[k]));
    }
  }
  for (Group& group : groups_) {
    for (Task& task : std::exchange(group.queue, {})) sort(std::move(task));
  }
  groups_[kControl].queue = std::move(kept);
  if (dropped.empty()) return;
  const Status told = why;
  lock->unlock();
  const auto drop = [told](std::deque<Task>* tasks) {
    for (Task& task : *tasks) task.Drop(told);
    tasks->clear();
  };
  const auto tasks = std::make_shared<std::deque<Task>>(std::move(dropped));
  // The cell outlives its tasks.
  const auto drop_there = [self = shared_from_this(), tasks, drop] { drop(tasks.get()); };
  if (!elsewhere || !node_->executor().Post(true, drop_there)) drop(tasks.get());
  lock->lock();
}

void Cell::MaybeFinish(std::unique_lock<std::mutex>* lock) {
  if (is_leaving_) return;
  for (const Lane& lane : lanes_) {
    if (lane.running > 0) return;
  }
  if (phase_ == Phase::kStopping) {
    for (const Group& group : groups_) {
      if (!group.queue.empty()) return;
    }
    if (needs_start_) return;
  } else if (phase_ != Phase::kEnding) {
    return;
  }
  FinishLife(lock);
}

// What calls get that a life has begun and not answered.
Status Cell::LeftOpen() const {
  const std::string ended = "actor \"" + name_ + "\" ended before it answered";
  if (!is_death_) return Cancelled(ended + ": it was stopped").WithOutcome(Outcome::kExecuted);
  return PeerDied(ended + ": " + end_.message()).WithOutcome(Outcome::kExecuted);
}

void Cell::FinishLife(std::unique_lock<std::mutex>* lock) {
  is_leaving_ = true;
  const Status left_open = LeftOpen();
  lock->unlock();
  if (actor_ != nullptr) {
    const EndingScope ending(left_open);
    if (has_begun_) (void)Guarded(name_, "OnStop", [&] { actor_->OnStop(*this); });
    (void)Guarded(name_, "destructor", [&] { actor_.reset(); });
  }
  lock->lock();
  // Those that OnStop has made, too.
  for (TimerId timer : timers_) node_->timers().Cancel(timer);
  timers_.clear();
  has_begun_ = false;
  const std::vector<std::weak_ptr<Cell>> children = std::exchange(children_, {});
  ending_children_ += children.size();
  lock->unlock();
  size_t finished = 0;
  for (const std::weak_ptr<Cell>& weak : children) {
    const auto child = weak.lock();
    if (child != nullptr) child->BeginStop();
    if (child == nullptr || !child->PromiseFinish(shared_from_this())) ++finished;
  }
  lock->lock();
  ending_children_ -= finished;
  is_leaving_ = false;
  if (phase_ == Phase::kEnding && will_restart_) {  // nobody has killed it meanwhile
    phase_ = Phase::kBackoff;
    waits_for_children_ = false;  // killed while it did: the back-off comes first again
    if (past_lives_.size() == kRememberedLives) past_lives_.erase(past_lives_.begin());
    past_lives_.push_back(incarnation());
    incarnation_ = RandomIncarnation().value;
    ++life_;
    restart_timer_ = node_->AddTimer(Now() + NextBackoff(), weak_from_this());
    // From here on a stop is no death any more.
    restart_cause_ = std::exchange(end_, HasStopped()).message();
    is_death_ = false;
    return;
  }
  phase_ = Phase::kStopped;
  links_.clear();  // two that are linked refer to each other
  monitored_.clear();
  DropQueued(end_, lock);
  const Status why = end_;
  const bool is_death = is_death_;
  lock->unlock();
  node_->Forget(shared_from_this(), is_death ? PeerDied(why.message()) : Cancelled(why.message()));
  TellWatchers(is_death ? PeerEvent::Kind::kDied : PeerEvent::Kind::kLeft, why.message(),
               /*are_done=*/true);
  lock->lock();
  is_finished_ = true;
  stopped_.notify_all();
  const std::shared_ptr<Cell> parent = ended_parent_.lock();
  if (parent == nullptr) return;
  lock->unlock();
  parent->OnChildFinished();
  lock->lock();
}

void Cell::EndBackoff() {
  if (ending_children_ == 0) return BeginNextLife();
  if (!std::exchange(waits_for_children_, true)) {
    restart_timer_ =
        node_->AddTimer(Now() + ClampedWait(options_.restart.backoff_max), weak_from_this());
    return;
  }
  LogWarning("actor \"", name_, "\" lives again beside ", ending_children_,
             " children of its last life that do not end");
  BeginNextLife();
}

void Cell::BeginNextLife() {
  phase_ = Phase::kRunning;
  needs_start_ = true;
  is_starting_ = true;
  Schedule(kControl);
}

bool Cell::PromiseFinish(const std::shared_ptr<Cell>& parent) {
  std::lock_guard lock(mutex_);
  if (is_finished_) return false;
  ended_parent_ = parent;
  return true;
}

void Cell::OnChildFinished() {
  std::lock_guard lock(mutex_);
  --ending_children_;
  if (ending_children_ > 0 || phase_ != Phase::kBackoff || !waits_for_children_) return;
  node_->timers().Cancel(restart_timer_);
  BeginNextLife();
}

void Cell::BeginStop() {
  std::unique_lock lock(mutex_);
  switch (phase_) {
    case Phase::kStopping:
    case Phase::kStopped: return;
    case Phase::kEnding:
      if (!std::exchange(will_restart_, false)) return;
      end_ = HasStopped();
      is_death_ = false;
      break;
    case Phase::kBackoff:
      phase_ = Phase::kEnding;
      will_restart_ = false;
      break;
    case Phase::kRunning:
      phase_ = Phase::kStopping;
      Schedule(kControl);
      return;
  }
  // Between two lives nothing is left that could handle what is queued.
  ++interrupts_;
  Schedule(kControl);
  DropQueued(end_, &lock);
}

bool Cell::WaitStopped(Duration patience) {
  std::unique_lock lock(mutex_);
  return stopped_.wait_for(lock, ClampedWait(patience), [this] { return is_finished_; });
}

void Cell::Abandon(const Status& status) {
  std::unique_lock lock(mutex_);
  watchers_.clear();
  BeginEnd(status, /*may_restart=*/false, /*is_death=*/false, &lock);
}

void Cell::TellWatchers(PeerEvent::Kind kind, const std::string& cause, bool are_done) {
  std::vector<Watcher> watchers;
  {
    std::lock_guard lock(mutex_);
    watchers = watchers_;
    if (are_done) watchers_.clear();
  }
  for (const Watcher& watcher : watchers) {
    if (const auto cell = watcher.cell.lock()) {
      cell->PushPeer({kind, watcher.ref, incarnation(), cause});
    }
  }
  if (!are_done) node_->AnnounceRestart(*this, cause);
}

void Cell::AddWatcher(const std::shared_ptr<Cell>& watcher, const ActorRef& ref) {
  PeerEvent event{PeerEvent::Kind::kLeft, ref, incarnation(), ""};
  {
    std::lock_guard lock(mutex_);
    if (phase_ != Phase::kStopped) {
      const bool is_known = std::any_of(watchers_.begin(), watchers_.end(),
                                        [&](const Watcher& w) { return w.cell.lock() == watcher; });
      std::erase_if(watchers_, [](const Watcher& w) { return w.cell.expired(); });
      if (!is_known) watchers_.push_back({watcher, ref});
      return;
    }
    if (is_death_) event.kind = PeerEvent::Kind::kDied;
    event.cause = end_.message();
  }
  watcher->PushPeer(std::move(event));
}

void Cell::RemoveWatcher(const Cell* watcher) {
  std::lock_guard lock(mutex_);
  std::erase_if(watchers_, [&](const Watcher& w) { return w.cell.lock().get() == watcher; });
}

bool Cell::IsLinked(const ActorRef& ref) const {
  return std::find(links_.begin(), links_.end(), ref) != links_.end();
}

bool Cell::IsMonitored(const ActorRef& ref) const {
  const auto [begin, end] = monitored_.equal_range(ref.actor());
  return std::any_of(begin, end, [&](const auto& entry) { return entry.second == ref; });
}

bool Cell::ForgetMonitored(const ActorRef& ref) {
  const auto [begin, end] = monitored_.equal_range(ref.actor());
  const auto found =
      std::find_if(begin, end, [&](const auto& entry) { return entry.second == ref; });
  if (found == end) return false;
  monitored_.erase(found);
  return true;
}

void Cell::NoteMonitored(const ActorRef& ref) {
  if (phase_ != Phase::kStopped && !IsMonitored(ref)) monitored_.emplace(ref.actor(), ref);
}

void Cell::AddLink(const ActorRef& ref) {
  std::lock_guard watching(watching_);
  {
    std::lock_guard lock(mutex_);
    if (phase_ == Phase::kStopped) return;
    if (!IsLinked(ref)) links_.push_back(ref);
  }
  node_->Monitor(shared_from_this(), ref, true);
}

void Cell::RemoveLink(const ActorRef& ref) {
  std::lock_guard watching(watching_);
  {
    std::lock_guard lock(mutex_);
    if (std::erase(links_, ref) == 0 || IsMonitored(ref)) return;
  }
  node_->Monitor(shared_from_this(), ref, false);
}

bool Cell::TakeNews(const PeerEvent& event) {
  const bool is_back = event.kind == PeerEvent::Kind::kRecovered;
  const bool has_died = event.kind == PeerEvent::Kind::kDied;
  if (!is_back && !has_died && event.kind != PeerEvent::Kind::kLeft) return false;
  std::lock_guard watching(watching_);
  {
    std::lock_guard lock(mutex_);
    if (is_back) {  // its process counted as dead, perhaps, and the watch stayed
      if (!IsLinked(event.ref)) NoteMonitored(event.ref);
      return false;
    }
    const bool was_linked = std::erase(links_, event.ref) != 0;
    const bool was_monitored = ForgetMonitored(event.ref);
    if (!was_linked || was_monitored) return was_linked && has_died;
  }
  // Of its process, which may come back, nobody has asked to hear.
  node_->Monitor(shared_from_this(), event.ref, false);
  return has_died;
}

void Cell::Adopt(const std::shared_ptr<Cell>& child) {
  std::lock_guard lock(mutex_);
  std::erase_if(children_, [](const std::weak_ptr<Cell>& weak) { return weak.expired(); });
  children_.push_back(child);
}

void Cell::Monitor(const ActorRef& ref) {
  if (!ref.valid()) return;
  std::lock_guard watching(watching_);
  {
    std::lock_guard lock(mutex_);
    NoteMonitored(ref);
  }
  node_->Monitor(shared_from_this(), ref, true);
}

void Cell::Demonitor(const ActorRef& ref) {
  std::lock_guard watching(watching_);
  {
    std::lock_guard lock(mutex_);
    ForgetMonitored(ref);
    if (IsLinked(ref)) return;  // which needs the news
  }
  node_->Monitor(shared_from_this(), ref, false);
}

void Cell::Link(const ActorRef& ref) {
  if (!ref.valid()) return;
  AddLink(ref);
  node_->BindLink(ref, Ref(), true);
}

void Cell::Unlink(const ActorRef& ref) {
  if (!ref.valid()) return;
  RemoveLink(ref);
  node_->BindLink(ref, Ref(), false);
}

}  // namespace packcast::internal
