// The threads that run actors.
#include "runtime/actor/executor.h"

#include <dirent.h>

#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/clock.h"
#include "tests/runtime/no_threads.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::Gate;
using testing::kPatience;
using testing::Record;

class Engine {
 public:
  struct Shared {
    Gate gate;
    Record<int> begun;
  };
  explicit Engine(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  static void Methods(MethodTable<Engine>& table) {
    table.Add("generate", &Engine::Generate, {.group = "compute"}).Add("load", &Engine::Load);
  }
  void Generate() {
    shared_->begun.Add(1);
    shared_->gate.Wait();
  }
  int64_t Load() { return 7; }

 private:
  const std::shared_ptr<Shared> shared_;
};

// Threads of this process.
int Threads() {
  int count = 0;
  DIR* tasks = opendir("/proc/self/task");
  while (readdir(tasks) != nullptr) ++count;
  closedir(tasks);
  return count;
}

TEST(NoThreadsTest, ARuntimeDoesNotStartAndSaysWhy) {
  const testing::NoThreads none;
  const Status status = Runtime::Start({.name = "node"}).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find("raise the limit on threads"), std::string::npos) << status;
}

TEST(NoThreadsTest, AnActorWithAGroupIsNotMadeAndOneWithoutIs) {
  auto runtime = testing::StartRuntime("node");
  const auto spawn = [&] {
    return NewActor<Engine>(*runtime, std::make_shared<Engine::Shared>())
        .Group("compute", 4)
        .Name("engine")
        .Spawn();
  };
  {
    const testing::NoThreads none;
    EXPECT_EQ(spawn().status().code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(runtime->Find("engine").status().code(), StatusCode::kNotFound);
    const ActorRef echo = runtime->Spawn("echo", testing::Echo()).value();
    EXPECT_TRUE(echo.Call("echo", Value()).Get(kPatience).ok());
  }
  const auto engine = spawn();
  ASSERT_TRUE(engine.ok()) << engine.status();
  EXPECT_EQ(engine->Call(&Engine::Load).Get(kPatience).value(), 7);
}

TEST(GroupThreadsTest, AGroupThatBlocksTakesNoThreadOfOthers) {
  auto runtime = testing::StartRuntime("node", {.executor_threads = 1});
  const int before = Threads();
  auto shared = std::make_shared<Engine::Shared>();
  const auto engine = NewActor<Engine>(*runtime, shared).Group("compute", 4).Spawn().value();
  std::vector<Future<Unit>> texts;
  for (int k = 0; k < 5; ++k) texts.push_back(engine.Call(&Engine::Generate));
  ASSERT_TRUE(shared->begun.WaitForCount(4)) << "as many at once as the group says";
  EXPECT_EQ(engine.Call(&Engine::Load).Get(kPatience).value(), 7);
  EXPECT_EQ(shared->begun.items().size(), 4u);
  shared->gate.Open();
  for (auto& text : texts) EXPECT_TRUE(text.Get(kPatience).ok());
  ASSERT_TRUE(runtime->Stop(engine.ref(), kPatience).ok());
  const Time give_up = Now() + kPatience;
  while (Threads() > before && Now() < give_up) std::this_thread::yield();
  EXPECT_LE(Threads(), before) << "they end with the actor";
}

// Begins only once it may.
class LateEngine : public Engine {
 public:
  LateEngine(std::shared_ptr<Shared> shared, std::shared_ptr<Gate> start)
      : Engine(std::move(shared)), start_(std::move(start)) {}
  void OnStart(Context&) { start_->Wait(); }
  void Work() { Generate(); }
  static void Methods(MethodTable<LateEngine>& table) {
    table.Add("work", &LateEngine::Work, {.group = "compute"});
  }

 private:
  const std::shared_ptr<Gate> start_;
};

TEST(GroupThreadsTest, WhatWaitsForTheStartOfALifeRunsAtOnceAfterIt) {
  auto runtime = testing::StartRuntime("node", {.executor_threads = 1});
  auto shared = std::make_shared<Engine::Shared>();
  auto start = std::make_shared<Gate>();
  const auto engine =
      NewActor<LateEngine>(*runtime, shared, start).Group("compute", 4).Spawn().value();
  std::vector<Future<Unit>> texts;
  for (int k = 0; k < 5; ++k) texts.push_back(engine.Call(&LateEngine::Work));
  // Its turn comes after the engine's: those have found that nothing may run yet.
  const ActorRef echo = runtime->Spawn("echo", testing::Echo()).value();
  for (int k = 0; k < 8; ++k) EXPECT_TRUE(echo.Call("echo", Value()).Get(kPatience).ok());
  EXPECT_TRUE(shared->begun.items().empty());
  start->Open();
  EXPECT_TRUE(shared->begun.WaitForCount(4)) << "as many at once as the group says";
  shared->gate.Open();
  for (auto& text : texts) EXPECT_TRUE(text.Get(kPatience).ok());
}

TEST(GroupThreadsTest, MoreThanThereMayBeIsRefusedAndTakesNothing) {
  auto runtime = testing::StartRuntime("node");
  auto shared = std::make_shared<Engine::Shared>();
  const auto spawn = [&](int threads) {
    return NewActor<Engine>(*runtime, shared).Name("engine").Group("compute", threads).Spawn();
  };
  EXPECT_EQ(spawn(internal::Executor::kMostThreads).status().code(),
            StatusCode::kResourceExhausted);
  ASSERT_TRUE(spawn(2).ok());
  EXPECT_EQ(spawn(500).status().code(), StatusCode::kAlreadyExists) << "gives its threads back";
  EXPECT_EQ(NewActor<Engine>(*runtime, shared).Group("compute", 600).Spawn().status().code(),
            StatusCode::kOk);
}

// Notes how many of its handlers run at once.
class Meeting {
 public:
  struct Shared {
    Gate gate;
    Record<int> begun;
    Record<std::string> told;
  };
  Meeting(std::shared_ptr<Shared> shared, ActorRef watched)
      : shared_(std::move(shared)), watched_(std::move(watched)) {}
  static void Methods(MethodTable<Meeting>& table) { table.Add("hold", &Meeting::Hold); }
  void Hold(Context& context) {
    context.Monitor(watched_);
    context.SetTimer(context.now());
    context.Post([shared = shared_](Context&) { shared->told.Add("post"); });
    shared_->begun.Add(1);
    shared_->gate.Wait();
  }
  void OnTimer(Context&, TimerId) { shared_->told.Add("timer"); }
  void OnPeer(Context&, const PeerEvent&) { shared_->told.Add("peer"); }

 private:
  const std::shared_ptr<Shared> shared_;
  const ActorRef watched_;
};

class MeetingTest : public ::testing::Test {
 protected:
  MeetingTest() { mortal_ = runtime_->Spawn("mortal", testing::Echo()).value(); }
  ~MeetingTest() override {
    shared_->gate.Open();
    runtime_->Shutdown(kPatience);
  }
  bool Told(const std::string& what) {
    return shared_->told.WaitFor([&](const std::string& told) { return told == what; });
  }
  std::shared_ptr<Meeting::Shared> shared_ = std::make_shared<Meeting::Shared>();
  std::unique_ptr<Runtime> runtime_ = testing::StartRuntime("node");
  ActorRef mortal_;
};

TEST_F(MeetingTest, WithConcurrencySoManyRunAtOnceAndTimersAndNewsBeside) {
  const auto ref = NewActor<Meeting>(*runtime_, shared_, mortal_).Concurrency(3).Spawn().value();
  // Of three, one place is left for what is beside.
  EXPECT_TRUE(ref.Tell(&Meeting::Hold).ok());
  EXPECT_TRUE(ref.Tell(&Meeting::Hold).ok());
  ASSERT_TRUE(shared_->begun.WaitForCount(2));
  EXPECT_TRUE(Told("timer"));
  EXPECT_TRUE(runtime_->Kill(mortal_).ok());
  EXPECT_TRUE(Told("peer"));
  EXPECT_FALSE(shared_->begun.items().size() > 3);
}

TEST_F(MeetingTest, WithConcurrentControlTimersAndNewsComeBesideAHandler) {
  SpawnOptions options;
  options.concurrent_control = true;
  const ActorRef ref =
      runtime_->Spawn("meeting", std::make_unique<Hosted<Meeting>>(shared_, mortal_), options)
          .value();
  EXPECT_TRUE(TypedRef<Meeting>(ref).Tell(&Meeting::Hold).ok());
  ASSERT_TRUE(shared_->begun.WaitForCount(1));
  EXPECT_TRUE(Told("timer"));
  EXPECT_TRUE(runtime_->Kill(mortal_).ok());
  EXPECT_TRUE(Told("peer"));
}

TEST_F(MeetingTest, WhatAnActorAsksForNeedsNoRoomInItsMailbox) {
  const auto ref = NewActor<Meeting>(*runtime_, shared_, mortal_).Window(2).Spawn().value();
  EXPECT_TRUE(ref.Tell(&Meeting::Hold).ok());
  ASSERT_TRUE(shared_->begun.WaitForCount(1));
  while (ref.Tell(&Meeting::Hold).ok()) {
  }
  EXPECT_TRUE(runtime_->Kill(mortal_).ok());
  shared_->gate.Open();
  EXPECT_TRUE(Told("timer") && Told("peer") && Told("post"));
}

TEST(GroupThreadsTest, ThoseThatOutlastTheRuntimeEndQuietly) {
  const int before = Threads();
  auto shared = std::make_shared<Engine::Shared>();
  auto runtime = testing::StartRuntime("node");
  {
    // A reference keeps what it names, and with it ZeroMQ's threads.
    const auto engine = NewActor<Engine>(*runtime, shared).Group("compute", 2).Spawn().value();
    for (int k = 0; k < 2; ++k) EXPECT_TRUE(engine.Tell(&Engine::Generate).ok());
  }
  ASSERT_TRUE(shared->begun.WaitForCount(2));
  runtime->Shutdown(Duration(0));  // leaves both behind
  shared->gate.Open();
  runtime.reset();
  const Time give_up = Now() + kPatience;
  while (Threads() > before && Now() < give_up) std::this_thread::yield();
  EXPECT_LE(Threads(), before);  // where those of the last test may still have been ending
}

}  // namespace
}  // namespace packcast
