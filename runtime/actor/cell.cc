#include "runtime/actor/cell.h"

#include <algorithm>
#include <utility>

#include "protocol/codec.h"
#include "protocol/limits.h"
#include "runtime/actor/node.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

namespace packcast::internal {
namespace {

thread_local Cell* current_cell = nullptr;

// Items that one turn handles before other actors get the thread.
constexpr int kTurnItems = 64;

// Runs user code; what it throws ends here, is logged and comes back as kInternal.
template <class F>
Status Guarded(const std::string& actor, const char* handler, F call) {
  std::string what;
  try {
    call();
    return OkStatus();
  } catch (const std::exception& error) {
    what = std::string("threw: ") + error.what();
  } catch (...) {
    what = "threw something that is no std::exception";
  }
  const Status status = Internal("actor \"" + actor + "\": " + handler + " " + what);
  LogError(status.message());
  return status;
}

}  // namespace

Cell::Cell(std::shared_ptr<Node> node, std::string name, Incarnation incarnation,
           std::unique_ptr<Actor> actor, SpawnOptions options)
    : node_(std::move(node)),
      name_(std::move(name)),
      incarnation_(incarnation),
      options_(options),
      actor_(std::move(actor)),
      end_(NotFound("actor \"" + name_ + "\" has stopped").WithOutcome(Outcome::kNotExecuted)) {}

Cell* Cell::Current() { return current_cell; }

ActorRef Cell::Ref() { return node_->RefTo(shared_from_this()); }

void Cell::Start() {
  std::lock_guard lock(mutex_);
  if (phase_ != Phase::kNew) return;
  phase_ = Phase::kRunning;
  // First in the group that goes first.
  queues_[kControl].push_front(Work([this](Context&) { RunOnStart(); }));
  Schedule(kControl);
}

void Cell::RunOnStart() {
  const Status started = Guarded(name_, "OnStart", [&] { actor_->OnStart(*this); });
  if (!started.ok()) Die(started.WithOutcome(Outcome::kNotExecuted));
  std::lock_guard lock(mutex_);
  is_starting_ = false;
  if (HasWork(kDefault)) Schedule(kDefault);
}

Status Cell::Push(Mail* mail, bool control) {
  const Group group = control ? kControl : kDefault;
  std::lock_guard lock(mutex_);
  if (phase_ == Phase::kStopping || phase_ == Phase::kStopped) return end_;
  if (queues_[group].size() >= limits::kMailboxMessages) {
    return ResourceExhausted("the mailbox of actor \"" + name_ + "\" is full (" +
                             std::to_string(limits::kMailboxMessages) + " messages)")
        .WithOutcome(Outcome::kNotExecuted);
  }
  queues_[group].emplace_back(std::move(*mail));
  Schedule(group);
  return OkStatus();
}

void Cell::PushInternal(Item item, bool control) {
  const Group group = control ? kControl : kDefault;
  std::lock_guard lock(mutex_);
  if (phase_ == Phase::kStopping || phase_ == Phase::kStopped) return;
  queues_[group].push_back(std::move(item));
  Schedule(group);
}

void Cell::PushTimer(TimerId timer) { PushInternal(timer, true); }
void Cell::PushPeer(PeerEvent event) { PushInternal(std::move(event), true); }
void Cell::PushWork(Work work, bool control) { PushInternal(std::move(work), control); }

void Cell::Schedule(Group group) {
  // The turn that runs looks at the queues before it ends.
  if (is_posted_[group] || is_running_[LaneOf(group)]) return;
  is_posted_[group] = node_->executor().Post(
      group == kControl, [self = shared_from_this(), group] { self->Run(group); });
}

bool Cell::HasWork(Group group) const {
  if (phase_ == Phase::kNew || phase_ == Phase::kStopped) return false;
  // OnStart comes before everything.
  return !queues_[group].empty() && (group == kControl || !is_starting_);
}

bool Cell::NextItem(Group token, Item* item) {
  const bool control_first = LaneOf(token) == LaneOf(kControl) && HasWork(kControl);
  const Group group = control_first ? kControl : token;
  if (!HasWork(group)) return false;
  *item = std::move(queues_[group].front());
  queues_[group].pop_front();
  return true;
}

void Cell::Run(Group token) {
  const Group lane = LaneOf(token);
  std::unique_lock lock(mutex_);
  is_posted_[token] = false;
  // The one who runs looks at the queues before it leaves, and asks for another turn.
  if (is_running_[lane]) return;
  is_running_[lane] = true;
  Cell* const outer = std::exchange(current_cell, this);
  Item item;
  for (int k = 0; k < kTurnItems && NextItem(token, &item); ++k) {
    lock.unlock();
    Handle(std::move(item));
    item = TimerId();  // what it still holds goes without the lock
    lock.lock();
  }
  is_running_[lane] = false;
  for (Group group : {kControl, kDefault}) {
    if (LaneOf(group) == lane && HasWork(group)) Schedule(group);
  }
  MaybeFinish(&lock);
  current_cell = outer;
}

void Cell::Handle(Item item) {
  if (Mail* mail = std::get_if<Mail>(&item)) {
    HandleMail(std::move(*mail));
  } else if (const TimerId* timer = std::get_if<TimerId>(&item)) {
    {
      std::lock_guard lock(mutex_);
      if (timers_.erase(*timer) == 0) return;  // cancelled after it expired
    }
    (void)Guarded(name_, "OnTimer", [&] { actor_->OnTimer(*this, *timer); });
  } else if (const PeerEvent* event = std::get_if<PeerEvent>(&item)) {
    (void)Guarded(name_, "OnPeer", [&] { actor_->OnPeer(*this, *event); });
  } else {
    (void)Guarded(name_, "work", [&] { std::get<Work>(item)(*this); });
  }
}

void Cell::HandleMail(Mail mail) {
  Message& message = mail.message;
  if (message.deadline && *message.deadline <= Now()) {
    message.responder.Fail(
        DeadlineExceeded("the deadline passed in the mailbox").WithOutcome(Outcome::kNotExecuted));
    return;
  }
  if (mail.raw_body && mail.raw_body->size() > 0) {
    StatusOr<Value> body = Decode(mail.raw_body->view());
    if (!body.ok()) {
      node_->metrics().Get("malformed_bodies_total").Add();
      // Nobody else learns that a tell is lost.
      if (!message.responder.valid() && bad_body_log_.Allow(Now())) {
        LogWarning("actor \"", name_, "\": dropped tell \"", message.method, "\" from ",
                   message.from.ToString(), ": ", body.status().message());
      }
      message.responder.Fail(body.status()
                                 .WithContext("body of \"" + message.method + "\"")
                                 .WithOutcome(Outcome::kNotExecuted));
      return;
    }
    message.body = std::move(*body);
  }
  (void)Guarded(name_, "OnMessage", [&] { actor_->OnMessage(*this, std::move(message)); });
}

void Cell::MaybeFinish(std::unique_lock<std::mutex>* lock) {
  const bool is_idle = !is_running_[kDefault] && !is_running_[kControl] &&
                       queues_[kDefault].empty() && queues_[kControl].empty();
  if (phase_ != Phase::kStopping || !is_idle) return;
  phase_ = Phase::kStopped;  // nobody else comes here any more
  const std::string cause = end_.message();
  std::vector<Watcher> watchers = std::move(watchers_);
  watchers_.clear();
  for (TimerId timer : timers_) node_->timers().Cancel(timer);
  timers_.clear();
  lock->unlock();
  (void)Guarded(name_, "OnStop", [&] { actor_->OnStop(*this); });
  (void)Guarded(name_, "destructor", [&] { actor_.reset(); });
  node_->Forget(shared_from_this());
  for (const Watcher& watcher : watchers) {
    if (auto cell = watcher.cell.lock()) {
      cell->PushPeer({PeerEvent::Kind::kLeft, watcher.ref, incarnation_, cause});
    }
  }
  lock->lock();
  is_finished_ = true;
  stopped_.notify_all();
}

void Cell::BeginStop() {
  std::lock_guard lock(mutex_);
  if (phase_ == Phase::kStopping || phase_ == Phase::kStopped) return;
  phase_ = Phase::kStopping;
  Schedule(kControl);
}

bool Cell::WaitStopped(Duration patience) {
  std::unique_lock lock(mutex_);
  return stopped_.wait_for(lock, ClampedWait(patience), [this] { return is_finished_; });
}

void Cell::Abandon(const Status& status) {
  {
    std::lock_guard lock(mutex_);
    watchers_.clear();
  }
  Die(status.WithOutcome(Outcome::kNotExecuted));
}

void Cell::Die(const Status& why) {
  std::deque<Item> dropped[2];
  {
    std::lock_guard lock(mutex_);
    if (phase_ == Phase::kStopped) return;
    phase_ = Phase::kStopping;
    end_ = why;
    dropped[kDefault].swap(queues_[kDefault]);
    dropped[kControl].swap(queues_[kControl]);
    Schedule(kControl);  // nothing that is queued brings the turn that finishes any more
  }
  for (std::deque<Item>& queue : dropped) {
    for (Item& item : queue) {
      Mail* mail = std::get_if<Mail>(&item);
      if (mail != nullptr) mail->message.responder.Fail(why);
    }
  }
}

void Cell::AddWatcher(const std::shared_ptr<Cell>& watcher, const ActorRef& ref) {
  {
    std::lock_guard lock(mutex_);
    if (phase_ != Phase::kStopped) {
      const bool is_known = std::any_of(watchers_.begin(), watchers_.end(),
                                        [&](const Watcher& w) { return w.cell.lock() == watcher; });
      if (!is_known) watchers_.push_back({watcher, ref});
      return;
    }
  }
  watcher->PushPeer({PeerEvent::Kind::kLeft, ref, incarnation_, end_.message()});
}

void Cell::RemoveWatcher(const Cell* watcher) {
  std::lock_guard lock(mutex_);
  std::erase_if(watchers_, [&](const Watcher& w) { return w.cell.lock().get() == watcher; });
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

void Cell::Monitor(const ActorRef& ref) { node_->Monitor(shared_from_this(), ref, true); }
void Cell::Demonitor(const ActorRef& ref) { node_->Monitor(shared_from_this(), ref, false); }

std::function<void(Cell::Work)> Cell::Poster() {
  return [weak = weak_from_this()](Work work) {
    if (auto cell = weak.lock()) cell->PushWork(std::move(work), true);
  };
}

}  // namespace packcast::internal
