#include "runtime/testing/stage.h"

#include <algorithm>
#include <mutex>
#include <set>

#include "runtime/actor/guarded.h"
#include "runtime/actor/message_target.h"
#include "runtime/base/check.h"

namespace packcast {
namespace internal {
namespace {

constexpr char kNode[] = "stage";

}  // namespace

// A peer that the test plays.
class StagePeer : public MessageTarget {
 public:
  StagePeer(std::string name, std::vector<Sent>* sent) : name_(std::move(name)), sent_(sent) {}

  Status Tell(std::string method, Value body, const TellOptions& options) override {
    if (sent_ == nullptr) return Cancelled("the stage is gone");
    sent_->push_back({name_, std::move(method), std::move(body), false, options.control});
    return OkStatus();
  }
  Future<Value> Call(std::string method, Value body, const CallOptions& options) override {
    if (sent_ == nullptr) return MakeReady<Value>(Cancelled("the stage is gone"));
    sent_->push_back({name_, std::move(method), std::move(body), true, options.control});
    open_.emplace_back();
    return open_.back().future();
  }
  bool Answer(StatusOr<Value> result) {
    if (open_.empty()) return false;
    const Promise<Value> promise = open_.front();
    open_.pop_front();
    promise.Set(std::move(result));
    return true;
  }
  void Close() {
    sent_ = nullptr;
    open_.clear();
  }

 private:
  const std::string name_;
  std::vector<Sent>* sent_;  // the stage's; null once it is gone
  std::deque<Promise<Value>> open_;
};

// What a stage is inside; also the actor's own address and its context.
class StageCore : public MessageTarget,
                  public Context,
                  public std::enable_shared_from_this<StageCore> {
 public:
  using Work = std::function<void(Context&)>;

  void Start(std::unique_ptr<Actor> actor) {
    PC_CHECK(actor != nullptr) << "a stage needs an actor";
    actor_ = std::move(actor);
    const Status started = Guarded("stage", "OnStart", [&] { actor_->OnStart(*this); });
    if (!started.ok()) Fail(started);
    EndIfDue();
  }

  // MessageTarget: what is sent to the actor.
  Status Tell(std::string method, Value body, const TellOptions& options) override {
    return Deliver(ActorRef(), std::move(method), std::move(body), Responder(), options.control);
  }
  Future<Value> Call(std::string method, Value body, const CallOptions& options) override {
    return CallFrom(ActorRef(), std::move(method), std::move(body), options.control);
  }
  Future<Value> CallFrom(const ActorRef& from, std::string method, Value body, bool control) {
    class Reply : public ReplyTarget {
     public:
      explicit Reply(Promise<Value> promise) : promise_(std::move(promise)) {}
      void Deliver(StatusOr<Value> result) override { promise_.Set(std::move(result)); }

     private:
      const Promise<Value> promise_;
    };
    const Promise<Value> promise;
    (void)Deliver(from, std::move(method), std::move(body),
                  Responder(std::make_unique<Reply>(promise)), control);
    return promise.future();
  }
  Status Deliver(const ActorRef& from, std::string method, Value body, Responder responder,
                 bool control) {
    auto message = std::make_shared<Message>();
    message->from = from;
    message->method = std::move(method);
    message->body = std::move(body);
    message->responder = std::move(responder);
    message->control = control;
    const bool is_queued = Push(
        control,
        [this, message](Context& context) {
          sender_ = message->from;
          actor_->OnMessage(context, std::move(*message));
        },
        message);
    if (is_queued) return OkStatus();
    const Status gone = NotFound("the actor has stopped").WithOutcome(Outcome::kNotExecuted);
    message->responder.Fail(gone);
    return gone;
  }

  // Context.
  ActorRef self() const override {
    auto* me = const_cast<StageCore*>(this);
    return RefToTarget(me->shared_from_this(), "actor", kNode, Incarnation(1));
  }
  ActorRef sender() const override { return sender_; }
  Time now() const override { return now_; }
  Runtime& runtime() override {
    if (runtime_ == nullptr) runtime_ = Runtime::Start({.name = kNode, .bind = ""}).value();
    return *runtime_;
  }
  Future<ActorRef> Connect(const std::string& endpoint, const std::string& actor,
                           Duration timeout) override {
    seeks_.push_back({{endpoint, actor}, now_ + ClampedWait(timeout), Promise<ActorRef>()});
    return seeks_.back().found.future();
  }
  TimerId SetTimer(Time when) override {
    const TimerId timer(++last_timer_);
    timers_.emplace(when, timer);
    return timer;
  }
  void Cancel(TimerId timer) override {
    std::erase_if(timers_, [&](const auto& entry) { return entry.second == timer; });
    expired_.erase(timer);
  }
  void Monitor(const ActorRef& ref) override { monitored_.insert(ref.actor()); }
  void Demonitor(const ActorRef& ref) override { monitored_.erase(ref.actor()); }
  void Fail(Status why) override {
    if (!failure_) failure_ = std::move(why);
  }
  void Stop() override {
    std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  void Link(const ActorRef& ref) override { linked_.insert(ref.actor()); }
  void Unlink(const ActorRef& ref) override { linked_.erase(ref.actor()); }
  int life() const override { return 1; }
  void ReportProgress(uint64_t counter) override { progress_ = counter; }
  void Post(Work work, bool control) override { Push(control, std::move(work)); }
  std::function<void(Work)> Poster() override {
    return [weak = weak_from_this()](Work work) {
      if (const auto core = weak.lock()) core->Push(true, std::move(work));
    };
  }

  bool Step() {
    Queued next;
    {
      std::lock_guard lock(mutex_);
      std::deque<Queued>& queue = control_.empty() ? normal_ : control_;
      if (queue.empty() || actor_ == nullptr) return false;
      next = std::move(queue.front());
      queue.pop_front();
    }
    sender_ = ActorRef();
    (void)Guarded("stage", "a message", [&] { next.work(*this); });
    EndIfDue();
    return true;
  }

  size_t RunAll(size_t limit) {
    size_t count = 0;
    while (count < limit && Step()) ++count;
    return count;
  }

  void Advance(Duration duration, size_t limit) {
    const Time until = now_ + duration;
    RunAll(limit);
    while (Expire(until)) RunAll(limit);
    now_ = until;
  }

  std::vector<Sought> Seeks() const {
    std::vector<Sought> sought;
    for (const Seek& seek : seeks_) sought.push_back(seek.sought);
    return sought;
  }
  bool AnswerConnect(const std::string& actor, const Status& result) {
    const auto seek = std::find_if(seeks_.begin(), seeks_.end(),
                                   [&](const Seek& each) { return each.sought.actor == actor; });
    if (seek == seeks_.end()) return false;
    const Promise<ActorRef> found = seek->found;
    seeks_.erase(seek);
    found.Set(result.ok() ? StatusOr<ActorRef>(Peer(actor)) : result);
    return true;
  }

  bool Happen(PeerEvent::Kind kind, const ActorRef& peer, const std::string& cause) {
    const std::string& name = peer.actor();
    if (linked_.count(name) + monitored_.count(name) == 0) return false;
    Push(true, [this, event = PeerEvent{kind, peer, peer.incarnation(), cause}](Context& context) {
      (void)Guarded("stage", "OnPeer", [&] { actor_->OnPeer(context, event); });
      const bool has_died = event.kind == PeerEvent::Kind::kDied;
      if (!has_died && event.kind != PeerEvent::Kind::kLeft) return;
      const bool was_linked = linked_.erase(event.ref.actor()) != 0;
      if (!has_died || !was_linked) return;
      Fail(PeerDied("linked " + event.ref.ToString() + " died: " + event.cause));
    });
    return true;
  }

  void StopNow(size_t limit) {
    RunAll(limit);
    End(Cancelled("the actor stopped"));
  }
  bool ended() const {
    std::lock_guard lock(mutex_);
    return is_over_;
  }
  // What waits is not handled.
  void End(const Status& why) {
    std::deque<Queued> dropped;
    {
      std::lock_guard lock(mutex_);
      if (std::exchange(is_over_, true)) return;
      for (std::deque<Queued>* queue : {&control_, &normal_}) {
        for (Queued& queued : std::exchange(*queue, {})) dropped.push_back(std::move(queued));
      }
    }
    for (const Queued& queued : dropped) {
      if (queued.message) queued.message->responder.Fail(why.WithOutcome(Outcome::kNotExecuted));
    }
    timers_.clear();
    sender_ = ActorRef();
    if (actor_ == nullptr) return;
    (void)Guarded("stage", "OnStop", [&] { actor_->OnStop(*this); });
  }

  StagePeer& PeerOf(const std::string& name) {
    auto& peer = peers_[name];
    if (peer == nullptr) peer = std::make_shared<StagePeer>(name, &sent_);
    return *peer;
  }
  ActorRef Peer(const std::string& name) {
    (void)PeerOf(name);
    return RefToTarget(peers_[name], name, kNode, Incarnation(1));
  }
  void Close() {
    for (const auto& [name, peer] : peers_) peer->Close();
    seeks_.clear();
    actor_.reset();
    runtime_.reset();
  }

  std::vector<Sent> sent_;
  std::optional<Status> failure_;
  uint64_t progress_ = 0;

 private:
  struct Seek {
    Sought sought;
    Time deadline;
    Promise<ActorRef> found;
  };

  // The first timer, or timeout, that is due by `until` becomes a message; false: there is none.
  bool Expire(Time until) {
    const auto seek =
        std::min_element(seeks_.begin(), seeks_.end(),
                         [](const Seek& a, const Seek& b) { return a.deadline < b.deadline; });
    const bool has_timer = !timers_.empty() && timers_.begin()->first <= until;
    if (seek != seeks_.end() && seek->deadline <= until &&
        !(has_timer && timers_.begin()->first <= seek->deadline)) {
      now_ = std::max(now_, seek->deadline);
      const Seek late = *seek;
      seeks_.erase(seek);
      late.found.Set(Unavailable("cannot connect to " + late.sought.endpoint +
                                 ": the test has not answered for \"" + late.sought.actor + "\""));
      return true;
    }
    if (!has_timer) return false;
    const auto [when, timer] = *timers_.begin();
    timers_.erase(timers_.begin());
    now_ = std::max(now_, when);
    expired_.insert(timer);
    Push(true, [this, timer = timer](Context& context) {
      if (expired_.erase(timer) != 0) actor_->OnTimer(context, timer);
    });
    return true;
  }

  // Any thread: real actors answer, too. False: it is over.
  bool Push(bool control, Work work, std::shared_ptr<Message> message = nullptr) {
    std::lock_guard lock(mutex_);
    if (is_over_ || is_stopping_) return false;
    (control ? control_ : normal_).push_back({std::move(work), std::move(message)});
    return true;
  }
  void EndIfDue() {
    if (failure_) return End(*failure_);
    {
      std::lock_guard lock(mutex_);
      if (!is_stopping_ || !control_.empty() || !normal_.empty()) return;
    }
    End(Cancelled("the actor stopped"));
  }

  std::unique_ptr<Actor> actor_;
  struct Queued {
    Work work;
    std::shared_ptr<Message> message;  // of a call or tell, to be answered if it is dropped
  };
  mutable std::mutex mutex_;
  std::deque<Queued> control_, normal_;  // guarded by mutex_
  bool is_stopping_ = false;             // as well
  bool is_over_ = false;                 // as well
  ActorRef sender_;
  Time now_{std::chrono::hours(1)};
  std::set<std::pair<Time, TimerId>> timers_;
  std::set<TimerId> expired_;
  uint64_t last_timer_ = 0;
  std::deque<Seek> seeks_;
  std::set<std::string> monitored_, linked_;
  std::map<std::string, std::shared_ptr<StagePeer>> peers_;
  std::unique_ptr<Runtime> runtime_;
};

}  // namespace internal

// The others go by this one: when `make` throws, the destructor closes what it has asked for.
Stage::Stage() : core_(std::make_shared<internal::StageCore>()) {}
Stage::Stage(std::unique_ptr<Actor> actor) : Stage() { core_->Start(std::move(actor)); }
Stage::Stage(const std::function<std::unique_ptr<Actor>(Stage&)>& make) : Stage() {
  core_->Start(make(*this));
}

Stage::~Stage() {
  core_->End(Cancelled("the stage is gone"));
  core_->Close();
}

ActorRef Stage::ref() const { return core_->self(); }
ActorRef Stage::Peer(const std::string& name) { return core_->Peer(name); }

void Stage::TellFrom(const std::string& peer, std::string method, Value body) {
  (void)core_->Deliver(Peer(peer), std::move(method), std::move(body), Responder(), false);
}
Future<Value> Stage::CallFrom(const std::string& peer, std::string method, Value body) {
  return core_->CallFrom(Peer(peer), std::move(method), std::move(body), false);
}

bool Stage::Step() { return core_->Step(); }
size_t Stage::RunAll(size_t limit) { return core_->RunAll(limit); }
void Stage::Advance(Duration duration) { core_->Advance(duration, kMostMessages); }
Time Stage::now() const { return core_->now(); }
bool Stage::Happen(PeerEvent::Kind kind, const std::string& peer, const std::string& cause) {
  return core_->Happen(kind, Peer(peer), cause);
}

std::vector<Sent> Stage::TakeSent() { return std::exchange(core_->sent_, {}); }
bool Stage::Answer(const std::string& peer, StatusOr<Value> result) {
  return core_->PeerOf(peer).Answer(std::move(result));
}
std::vector<Sought> Stage::Seeks() const { return core_->Seeks(); }
bool Stage::AnswerConnect(const std::string& actor, const Status& result) {
  return core_->AnswerConnect(actor, result);
}
bool Stage::ended() const { return core_->ended(); }
const std::optional<Status>& Stage::failure() const { return core_->failure_; }
uint64_t Stage::progress() const { return core_->progress_; }
void Stage::Stop() { core_->StopNow(kMostMessages); }

}  // namespace packcast
