// The code of docs/actors.md, run; its classes are in actors_snippets.h. snippets_test.py compares
// the two: change both.
#include "tests/docs/actors_snippets.h"

#include <signal.h>

#include <atomic>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/actor/new_actor.h"
#include "runtime/actor/runtime.h"
#include "runtime/process/child.h"
#include "runtime/process/process.h"
#include "runtime/testing/stage.h"
#include "tests/runtime/child_process.h"

namespace {

using namespace packcast;  // NOLINT: as in the document
using namespace snippets;  // NOLINT: the same

// [serve]
int Serve(const std::string& bind) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);  // before there are other threads: for all of them
  const auto report = [](const Status& why) {
    std::cerr << why << "\n";
    return 1;
  };

  auto runtime = Runtime::Start({.name = "games/1", .bind = bind});
  if (!runtime.ok()) return report(runtime.status());
  auto scores = NewActor<Scores>(**runtime, "chess").Name("scores").Spawn();
  if (!scores.ok()) return report(scores.status());
  std::cout << "listening at " << (*runtime)->endpoint() << std::endl;

  int which = 0;
  sigwait(&ends, &which);
  (*runtime)->Shutdown(Seconds(5));  // what is queued is handled, and the others are told
  return 0;
}
// [/serve]

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

TEST_F(Actors, LargeByteRanges) {
  const auto other = Runtime::Start({.name = "store"}).value();
  const auto store = NewActor<Replay>(*other).Name("replay").Spawn().value();
  const TypedRef<Replay> replay(runtime.Connect(other->endpoint(), "replay", Seconds(5)).value());
  // [replay-use]
  Bytes tokens(4 << 20, std::byte{7});
  auto put = replay.Call(&Replay::Put, "first", std::move(tokens));
  EXPECT_TRUE(put.Get(Seconds(5)).ok());
  ByteRange back = replay.Call(&Replay::Get, "first").Get(Seconds(5)).value();
  EXPECT_EQ(back.size(), 4u << 20);

  // Memory that is used again: written anew once nobody reads it any more.
  auto buffer = std::make_shared<Bytes>(1 << 20);
  Promise<Unit> is_free;
  ByteRange lent = ByteRange::Lend(*buffer, [buffer, is_free] { is_free.Set(Unit()); });
  EXPECT_TRUE(replay.Tell(&Replay::Put, "second", std::move(lent)).ok());
  // An actor of the same process keeps the memory itself, until then:
  EXPECT_TRUE(replay.Tell(&Replay::Put, "second", ByteRange()).ok());
  EXPECT_TRUE(is_free.future().Get(Seconds(5)).ok());
  // [/replay-use]
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

TEST_F(Actors, Groups) {
  // [spawn-groups]
  auto engine = NewActor<Engine>(runtime).Group("compute", 4).Window(1000).Spawn().value();
  Future<std::string> text = engine.Call(&Engine::Generate, "Once upon a time");
  EXPECT_EQ(engine.Call(&Engine::Load).Get(Seconds(5)).value(), 0);
  // [/spawn-groups]
  EXPECT_TRUE(text.Get(Seconds(5)).ok());
}

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

TEST_F(Actors, Reconnecting) {
  std::string endpoint = "tcp://127.0.0.1:*";
  std::optional<TypedRef<Regular>> regular;
  for (const std::string text : {"hello", "hello again", "and again"}) {
    auto rooms = Runtime::Start({.name = "rooms", .bind = endpoint}).value();
    endpoint = rooms->endpoint();
    auto room = NewActor<Room>(*rooms).Name("room").Spawn().value();
    if (!regular) regular = NewActor<Regular>(runtime, endpoint).Spawn().value();
    const auto heard = [&] { return regular->Call(&Regular::Heard).Get(Seconds(5)).value(); };
    while (heard() != text) EXPECT_TRUE(room.Call(&Room::Say, text).Get(Seconds(5)).ok());
  }
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

TEST(ActorsOnAStage, Peers) {
  // [stage-peers]
  Stage room(std::make_unique<Hosted<Room>>());
  room.CallFrom("ada", "join", ValueArray{});  // the arguments
  EXPECT_TRUE(room.ref<Room>().Tell(&Room::Say, "hello").ok());
  room.RunAll();
  std::vector<Sent> sent = room.TakeSent();
  EXPECT_EQ(sent[0].to + ": " + sent[0].method, "ada: hear");
  EXPECT_EQ((*sent[0].body.AsArray())[0], Value("hello"));
  EXPECT_TRUE(room.Happen(PeerEvent::Kind::kDied, "ada", "kill -9"));  // it monitors her
  room.RunAll();

  Stage interest([](Stage& made) {
    return std::make_unique<Hosted<Interest>>(made.Peer<Scores>("bank"), Seconds(60));
  });
  Future<Unit> paid = interest.ref<Interest>().Call(&Interest::WaitFor, 3);
  interest.Advance(Seconds(60));                   // its timer: it calls the bank
  EXPECT_TRUE(interest.Answer("bank", Value(3)));  // its oldest open call there
  interest.RunAll();
  EXPECT_TRUE(paid.Get(Seconds(0)).ok());

  Stage regular(std::make_unique<Hosted<Regular>>("tcp://127.0.0.1:5577"));
  EXPECT_TRUE(regular.AnswerConnect("room", Unavailable("nothing listens there")));
  regular.Advance(Seconds(1));
  EXPECT_TRUE(regular.AnswerConnect("room"));  // with the peer of that name
  regular.RunAll();
  EXPECT_EQ(regular.TakeSent()[0].method, "join");
  // [/stage-peers]
  EXPECT_TRUE(regular.Answer("room", Value()));
  regular.RunAll();
  EXPECT_TRUE(regular.Happen(PeerEvent::Kind::kLeft, "room", "goodbye"));
  EXPECT_TRUE(regular.Seeks().empty());
  regular.Advance(Seconds(1));
  EXPECT_EQ(regular.Seeks().size(), 1u);
}

TEST(ActorsAlone, AServerEndsInOrderWhenItIsToldTo) {
  setenv("NODE_CHILD", "/proc/self/exe", 1);
  packcast::testing::ChildProcess server({"tcp://127.0.0.1:*"});
  const std::string line = server.ReadLine();
  auto client = Runtime::Start({.name = "client"}).value();
  const std::string endpoint = line.substr(line.rfind(' ') + 1);
  TypedRef<Scores> scores(client->Connect(endpoint, "scores", Seconds(30)).value());
  EXPECT_EQ(scores.Call(&Scores::Add, "ada", 3).Get(Seconds(30)).value(), 3);
  auto watcher = NewActor<Watcher>(*client, scores.ref()).Spawn().value();
  const auto seen = [&] { return watcher.Call(&Watcher::Events).Get(Seconds(30)).value(); };
  EXPECT_TRUE(seen().empty());
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), 0);
  std::vector<std::string> events;
  while (events.empty()) events = seen();
  EXPECT_EQ(events[0].substr(0, 5), "left:");
}

int RunProgram(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]).starts_with("tcp://")) return Serve(argv[1]);
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
