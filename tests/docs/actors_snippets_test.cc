// The code of docs/actors.md, run. snippets_test.py compares the two: change both.
#include <signal.h>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/actor/new_actor.h"
#include "runtime/actor/runtime.h"
#include "runtime/process/child.h"
#include "runtime/process/process.h"
#include "runtime/testing/stage.h"

namespace {

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

class Actors : public ::testing::Test {
 protected:
  std::unique_ptr<Runtime> runtime_ = Runtime::Start({.name = "docs"}).value();
  Runtime& runtime = *runtime_;
};

TEST(ActorsAlone, Start) {
  // [start]
  auto runtime = Runtime::Start({.name = "games/0"}).value();
  auto scores = NewActor<Scores>(*runtime, "chess").Name("scores").Spawn().value();
  Future<int64_t> sum = scores.Call(&Scores::Add, "ada", 3);
  EXPECT_EQ(sum.Get(Seconds(5)).value(), 3);
  // [/start]
}

TEST_F(Actors, InsideAHandler) {
  auto scores = NewActor<Scores>(runtime, "chess").Spawn().value();
  // [interest-use]
  auto interest = NewActor<Interest>(runtime, scores, Milliseconds(1)).Spawn().value();
  EXPECT_TRUE(interest.Call(&Interest::WaitFor, 3).Get(Seconds(5)).ok());
  Future<Unit> never = interest.Call(&Interest::WaitFor, 1'000'000'000);
  EXPECT_TRUE(runtime.Stop(interest.ref()).ok());
  EXPECT_EQ(never.Get(Seconds(5)).status().code(), StatusCode::kCancelled);
  // [/interest-use]
}

TEST_F(Actors, Futures) {
  auto scores = NewActor<Scores>(runtime, "chess").Spawn().value();
  // [futures]
  std::vector<Future<int64_t>> sums;
  for (int k = 1; k <= 3; ++k) sums.push_back(scores.Call(&Scores::Add, "ada", k));
  size_t first = WhenAny(sums).Get(Seconds(5)).value();
  std::vector<StatusOr<int64_t>> all = WhenAll(sums).Get(Seconds(5)).value();
  EXPECT_EQ(all[2].value(), 6);

  Future<std::string> text = Map<std::string>(sums[first], [](const StatusOr<int64_t>& sum) {
    return StatusOr<std::string>("the sum is " + std::to_string(sum.value()));
  });
  text.Then([](const StatusOr<std::string>& result) { EXPECT_TRUE(result.ok()); });
  EXPECT_TRUE(text.Get(Seconds(5)).ok());

  Future<int64_t> late = scores.CallWith({.deadline = Seconds(1)}, &Scores::Get, "ada");
  late.Cancel();
  EXPECT_TRUE(late.Get(Seconds(5)).ok() ||
              late.Get(Seconds(5)).status().code() == StatusCode::kCancelled);

  EXPECT_TRUE(scores.Tell(&Scores::Add, "bob", 1).ok());
  // [/futures]
}

TEST_F(Actors, Outcomes) {
  auto scores = NewActor<Scores>(runtime, "chess").Spawn().value();
  // [outcomes]
  StatusOr<int64_t> unknown = scores.Call(&Scores::Get, "eve").Get(Seconds(5));
  EXPECT_EQ(unknown.status(), NotFound("eve has not played chess"));
  EXPECT_EQ(unknown.status().outcome(), Outcome::kExecuted);

  EXPECT_TRUE(runtime.Stop(scores.ref()).ok());
  StatusOr<int64_t> gone = scores.Call(&Scores::Get, "ada").Get(Seconds(5));
  EXPECT_EQ(gone.status().outcome(), Outcome::kNotExecuted);
  // [/outcomes]
}

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

TEST_F(Actors, Groups) {
  // [spawn-groups]
  auto engine = NewActor<Engine>(runtime).Group("compute", 4).Window(1000).Spawn().value();
  Future<std::string> text = engine.Call(&Engine::Generate, "Once upon a time");
  EXPECT_EQ(engine.Call(&Engine::Load).Get(Seconds(5)).value(), 0);
  // [/spawn-groups]
  EXPECT_TRUE(text.Get(Seconds(5)).ok());
}

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

TEST_F(Actors, Supervision) {
  // [restart]
  auto scores = NewActor<Scores>(runtime, "chess")
                    .Restart({.max_restarts = 3, .backoff = Milliseconds(10)})
                    .Spawn()
                    .value();
  auto watcher = NewActor<Watcher>(runtime, scores.ref()).Spawn().value();
  EXPECT_TRUE(watcher.Call(&Watcher::Events).Get(Seconds(5)).ok());  // it has started

  EXPECT_TRUE(scores.Call(&Scores::Crash).Get(Seconds(5)).ok());
  // Waits for the next life, which knows nothing of what the first one counted.
  EXPECT_EQ(scores.Call(&Scores::Add, "ada", 1).Get(Seconds(5)).value(), 1);

  EXPECT_TRUE(runtime.Kill(scores.ref()).ok());
  // [/restart]
  std::vector<std::string> events;
  while (events.size() < 2) events = watcher.Call(&Watcher::Events).Get(Seconds(5)).value();
  EXPECT_EQ(events[0], "restarted: the score board fell down");
  EXPECT_EQ(events[1], "died: killed by docs");
}

TEST_F(Actors, Naming) {
  // [naming]
  auto made = NewActor<Scores>(runtime, "chess").Namespace("games").Name("chess").GetOrCreate();
  auto found = NewActor<Scores>(runtime, "chess").Namespace("games").Name("chess").GetOrCreate();
  EXPECT_EQ(made->ref(), found->ref());

  auto other = Runtime::Start({.name = "other"}).value();
  TypedRef<Scores> far(other->Connect(runtime.endpoint(), "games/chess", Seconds(5)).value());
  EXPECT_EQ(far.Call(&Scores::Add, "ada", 2).Get(Seconds(5)).value(), 2);
  // [/naming]
}

TEST_F(Actors, Processes) {
  // [process]
  auto room = NewActor<Room>(runtime).Name("room").Spawn().value();
  auto process = Process::Start(runtime, {.name = "chat/1"}).value();
  auto ada = process->Spawn<Member>("Member", "ada").value();
  EXPECT_TRUE(ada.Call(&Member::Enter, runtime.endpoint()).Get(Seconds(10)).ok());

  EXPECT_TRUE(room.Call(&Room::Say, "hello").Get(Seconds(5)).ok());
  // The room's word and our question are of two callers: either may come first.
  std::vector<std::string> heard;
  while (heard.empty()) heard = ada.Call(&Member::Heard).Get(Seconds(5)).value();
  EXPECT_EQ(heard, std::vector<std::string>{"hello"});

  EXPECT_TRUE(process->Signal(SIGKILL).ok());
  EXPECT_EQ(process->WaitEnded(Seconds(5))->ToString(), "signal 9");
  // [/process]
  std::string news;
  while (news.empty()) news = room.Call(&Room::News).Get(Seconds(5)).value();
  EXPECT_EQ(news, "ada is gone: signal 9");
}

TEST_F(Actors, KeepingAProcess) {
  // [keeper-use]
  auto keeper = NewActor<Keeper>(runtime).Group("processes").Spawn().value();
  const auto pid = [&] { return keeper.Call(&Keeper::Pid).Get(Seconds(5)).value(); };
  while (pid() == 0) std::this_thread::yield();
  const int64_t first = pid();
  kill(static_cast<pid_t>(first), SIGKILL);
  while (pid() == first) std::this_thread::yield();
  // [/keeper-use]
}

TEST(ActorsAlone, StructsTravelByTheNamesOfTheirFields) {
  Move move;
  EXPECT_TRUE(FromValue(ToValue(Move{"ada", 3, "castles"}), &move).ok());
  EXPECT_EQ(move.player, "ada");
  EXPECT_EQ(move.points, 3);
  EXPECT_EQ(move.note, "castles");
  EXPECT_TRUE(FromValue(Value(ValueMap{{"player", "bob"}, {"later", 1}}), &move).ok());
  EXPECT_EQ(move.player, "bob");
  EXPECT_EQ(move.points, 3) << "a missing key leaves its member as it is";
  Move empty;
  EXPECT_TRUE(FromValue(ToValue(Move{"eve", 0, std::nullopt}), &empty).ok());
  EXPECT_EQ(empty.note, std::nullopt);
}

TEST(ActorsOnAStage, Testing) {
  // [stage]
  Stage stage([](Stage& made) { return std::make_unique<Hosted<Watcher>>(made.Peer("bank")); });
  EXPECT_TRUE(stage.Happen(PeerEvent::Kind::kDied, "bank", "signal 9"));

  Stage scores(std::make_unique<Hosted<Scores>>("chess"));
  Future<int64_t> sum = scores.ref<Scores>().Call(&Scores::Add, "ada", 3);
  EXPECT_FALSE(sum.ready());
  EXPECT_TRUE(scores.Step());
  EXPECT_EQ(sum.Get(Seconds(0)).value(), 3);

  scores.ref<Scores>().Call(&Scores::Crash);
  scores.RunAll();
  EXPECT_EQ(scores.failure(), Internal("the score board fell down"));
  // [/stage]
}

int RunProgram(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

}  // namespace

// [main]
int main(int argc, char** argv) {
  if (const auto code = RunIfChild(Classes())) return *code;
  return RunProgram(argc, argv);
}
// [/main]
