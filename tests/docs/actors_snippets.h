#pragma once

// The classes of docs/actors.md. snippets_test.py compares the two: change both.
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/actor/new_actor.h"
#include "runtime/process/child.h"
#include "runtime/process/process.h"

namespace snippets {

using namespace packcast;  // NOLINT: as in the document

// [class]
class Scores {
 public:
  explicit Scores(std::string game) : game_(std::move(game)) {}

  int64_t Add(const std::string& player, int64_t points) { return total_[player] += points; }
  StatusOr<int64_t> Get(const std::string& player) const {
    const auto found = total_.find(player);
    if (found == total_.end()) return NotFound(player + " has not played " + game_);
    return found->second;
  }
  void Crash(Context& context) { context.Fail(Internal("the score board fell down")); }

  static void Methods(MethodTable<Scores>& table) {
    table.Add("add", &Scores::Add, {.about = "adds points and returns the sum"})
        .Add("get", &Scores::Get)
        .Add("crash", &Scores::Crash);
  }

 private:
  const std::string game_;
  std::map<std::string, int64_t> total_;
};
// [/class]

// [replay]
class Replay {
 public:
  void Put(const std::string& game, ByteRange tokens) { games_[game] = std::move(tokens); }
  StatusOr<ByteRange> Get(const std::string& game) const {
    const auto found = games_.find(game);
    if (found == games_.end()) return NotFound("no game " + game);
    return found->second;
  }
  static void Methods(MethodTable<Replay>& table) {
    table.Add("put", &Replay::Put).Add("get", &Replay::Get);
  }

 private:
  std::map<std::string, ByteRange> games_;
};
// [/replay]

// [interest]
class Interest {
 public:
  Interest(TypedRef<Scores> bank, Duration every) : bank_(std::move(bank)), every_(every) {}

  void OnStart(Context& context) { context.SetTimer(context.now() + every_); }
  void OnTimer(Context& context, TimerId) {
    // Other messages are handled until the answer is there.
    context.Await<int64_t>(bank_.Call(&Scores::Add, "bank", 1),
                           [this](Context& later, const StatusOr<int64_t>& sum) {
                             if (sum.ok()) Grow(*sum);
                             later.SetTimer(later.now() + every_);
                           });
  }
  // Answers when the bank has so much.
  Future<Unit> WaitFor(int64_t sum) {
    Promise<Unit> promise;
    waiting_.emplace(sum, promise);
    return promise.future();
  }
  void OnStop(Context&) {
    for (auto& [sum, promise] : waiting_) promise.Set(Cancelled("no more interest is paid"));
  }
  static void Methods(MethodTable<Interest>& table) { table.Add("wait_for", &Interest::WaitFor); }

 private:
  void Grow(int64_t sum) {
    for (auto it = waiting_.begin(); it != waiting_.end() && it->first <= sum;) {
      it->second.Set(Unit());
      it = waiting_.erase(it);
    }
  }
  const TypedRef<Scores> bank_;
  const Duration every_;
  std::multimap<int64_t, Promise<Unit>> waiting_;
};
// [/interest]

// [struct]
struct Move {
  std::string player;
  int64_t points = 0;
  std::optional<std::string> note;
  template <class V>
  void Fields(V& v) {
    v("player", player);
    v("points", points);
    v("note", note);
  }
};
// [/struct]

// [chat]
class Member {
 public:
  // Joins the room of another process; answers when the room has.
  Future<Unit> Enter(Context& context, const std::string& endpoint) {
    Promise<Unit> entered;
    context.Await<ActorRef>(context.Connect(endpoint, "room", Seconds(5)),
                            [entered](Context& later, const StatusOr<ActorRef>& room) {
                              if (!room.ok()) return (void)entered.Set(room.status());
                              later.Await<Unit>(CallMethod<Unit>(*room, "join", {}),
                                                [entered](Context&, const StatusOr<Unit>& joined) {
                                                  entered.Set(joined);
                                                });
                            });
    return entered.future();
  }
  void Hear(const std::string& text) { heard_.push_back(text); }
  std::vector<std::string> Heard() const { return heard_; }
  static void Methods(MethodTable<Member>& table) {
    table.Add("enter", &Member::Enter).Add("hear", &Member::Hear).Add("heard", &Member::Heard);
  }

 private:
  std::vector<std::string> heard_;
};

class Room {
 public:
  void Join(Context& context) {
    members_.push_back(TypedRef<Member>(context.sender()));
    context.Monitor(context.sender());
  }
  void Say(const std::string& text) {
    for (const TypedRef<Member>& member : members_) {
      if (!member.Tell(&Member::Hear, text).ok()) ++lost_;
    }
  }
  void OnPeer(Context&, const PeerEvent& event) {
    if (event.kind != PeerEvent::Kind::kDied && event.kind != PeerEvent::Kind::kLeft) return;
    std::erase_if(members_, [&](const auto& member) { return member.ref() == event.ref; });
    news_ = event.ref.actor() + " is gone: " + event.cause;
  }
  std::string News() const { return news_; }
  static void Methods(MethodTable<Room>& table) {
    table.Add("join", &Room::Join).Add("say", &Room::Say).Add("news", &Room::News);
  }

 private:
  std::vector<TypedRef<Member>> members_;
  std::string news_;
  int lost_ = 0;
};

ActorClasses Classes() {
  ActorClasses classes;
  classes.Add<Member>("Member").Add<Scores, std::string>("Scores");
  return classes;
}
// [/chat]

// [keeper]
class Keeper {
 public:
  void OnStart(Context& context) { Launch(context); }
  void OnTimer(Context& context, TimerId) { Launch(context); }
  void OnPeer(Context& context, const PeerEvent& event) {
    using Kind = PeerEvent::Kind;
    const bool is_over = event.kind == Kind::kDied || event.kind == Kind::kLeft;
    if (is_over) context.SetTimer(context.now() + kWait);
  }
  // Waits until the child is ready: so it has a group, and with it a thread, of its own.
  Status Start(Context& context) {
    process_.reset();  // its name is taken as long as it is there
    PC_ASSIGN_OR_RETURN(process_, Process::Start(context.runtime(), {.name = "chat/2"}));
    PC_ASSIGN_OR_RETURN(auto member, process_->Spawn<Member>("Member", "bob"));
    context.Monitor(member.ref());
    pid_ = process_->pid();
    return OkStatus();
  }
  int64_t Pid() const { return pid_; }
  static void Methods(MethodTable<Keeper>& table) {
    table.Add("start", &Keeper::Start, {.group = "processes"}).Add("pid", &Keeper::Pid);
  }

 private:
  static constexpr Duration kWait = Milliseconds(50);
  void Launch(Context& context) {
    context.Await<Unit>(TypedRef<Keeper>(context.self()).Call(&Keeper::Start),
                        [](Context& later, const StatusOr<Unit>& started) {
                          if (!started.ok()) later.SetTimer(later.now() + kWait);
                        });
  }
  std::unique_ptr<Process> process_;
  std::atomic<int64_t> pid_{0};  // shared between groups
};
// [/keeper]

// [groups]
class Engine {
 public:
  std::string Generate(const std::string& prompt) { return prompt + " ..."; }
  int64_t Load() const { return load_; }
  static void Methods(MethodTable<Engine>& table) {
    table.Add("generate", &Engine::Generate, {.group = "compute"}).Add("load", &Engine::Load);
  }

 private:
  std::atomic<int64_t> load_{0};  // shared between groups
};
// [/groups]

// [watcher]
class Watcher {
 public:
  explicit Watcher(ActorRef watched) : watched_(std::move(watched)) {}
  void OnStart(Context& context) { context.Monitor(watched_); }
  void OnPeer(Context&, const PeerEvent& event) {
    events_.push_back(std::string(PeerEventKindName(event.kind)) + ": " + event.cause);
  }
  std::vector<std::string> Events() const { return events_; }
  static void Methods(MethodTable<Watcher>& table) { table.Add("events", &Watcher::Events); }

 private:
  const ActorRef watched_;
  std::vector<std::string> events_;
};
// [/watcher]

// [regular]
// Is in the room whenever there is one.
class Regular {
 public:
  explicit Regular(std::string endpoint) : endpoint_(std::move(endpoint)) {}
  void OnStart(Context& context) { Seek(context); }
  void OnTimer(Context& context, TimerId) { Seek(context); }
  void OnPeer(Context& context, const PeerEvent& event) {
    using Kind = PeerEvent::Kind;
    if (event.kind == Kind::kDied || event.kind == Kind::kLeft) SeekLater(context);
  }
  void Hear(const std::string& text) { heard_ = text; }
  std::string Heard() const { return heard_; }
  static void Methods(MethodTable<Regular>& table) {
    table.Add("hear", &Regular::Hear).Add("heard", &Regular::Heard);
  }

 private:
  void Seek(Context& context) {
    context.Await<ActorRef>(context.Connect(endpoint_, "room", Seconds(5)),
                            [this](Context& later, const StatusOr<ActorRef>& room) {
                              if (!room.ok()) return SeekLater(later);
                              later.Monitor(*room);
                              Join(later, *room);
                            });
  }
  void Join(Context& context, const ActorRef& room) {
    context.Await<Unit>(CallMethod<Unit>(room, "join", {}),
                        [this](Context& later, const StatusOr<Unit>& joined) {
                          if (!joined.ok()) SeekLater(later);
                        });
  }
  // The end of the room and a join that fails for it are one reason to seek it, not two.
  void SeekLater(Context& context) {
    context.Cancel(timer_);
    timer_ = context.SetTimer(context.now() + Seconds(1));
  }
  const std::string endpoint_;
  TimerId timer_;
  std::string heard_;
};
// [/regular]

}  // namespace snippets
