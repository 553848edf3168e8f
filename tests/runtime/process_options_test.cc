// What a child process takes over from its owner, and what it is told.
#include <signal.h>
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "runtime/actor/keys.h"
#include "runtime/process/child.h"
#include "runtime/process/process.h"
#include "tests/runtime/no_threads.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::kPatience;

// Answers `hold` when `release` comes.
class Holder {
 public:
  static void Methods(MethodTable<Holder>& table) {
    table.Add("hold", &Holder::Hold, {.group = "slow"})
        .Add("held", &Holder::Held)
        .Add("release", &Holder::Release);
  }
  void Hold() {
    ++held_;
    gate_.Wait();
  }
  int64_t Held() { return held_; }
  void Release() { gate_.Open(); }

 private:
  std::atomic<int64_t> held_{0};
  testing::Gate gate_;
};

// Takes its time to stop, longer than a process whose owner is gone would be given.
class Slow {
 public:
  static void Methods(MethodTable<Slow>&) {}
  void OnStop(Context&) {
    std::this_thread::sleep_for(Milliseconds(1500));
    std::fprintf(stderr, "all is saved\n");
  }
};

// Ends at once: by a throw, or with its process.
class Mayfly {
 public:
  explicit Mayfly(bool throws) : throws_(throws) {}
  static void Methods(MethodTable<Mayfly>&) {}
  void OnStart(Context&) {
    if (throws_) throw std::runtime_error("no wings");
    std::fprintf(stderr, "I abort\n");
    std::abort();
  }

 private:
  const bool throws_;
};

ActorClasses Classes() {
  ActorClasses classes;
  classes.Add<Holder>("Holder").Add<Slow>("Slow").Add<Mayfly, bool>("Mayfly");
  return classes;
}

TEST(ProcessOptionsTest, OneThatNoThreadCanWatchIsNotStartedAndSoIsNothingLeftOfIt) {
  auto runtime = testing::StartRuntime("owner");
  for (const bool detached : {false, true}) {
    {
      const testing::NoThreads none;
      const auto process = Process::Start(*runtime, {.name = "child", .detached = detached});
      EXPECT_EQ(process.status().code(), StatusCode::kResourceExhausted) << process.status();
    }
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "no child, no zombie";
    EXPECT_EQ(errno, ECHILD);
  }
  EXPECT_TRUE(Process::Start(*runtime, {.name = "child"}).ok());
}

TEST(ProcessOptionsTest, AnActorThereMayHaveGroups) {
  auto runtime = testing::StartRuntime("owner");
  const auto process = Process::Start(*runtime, {.name = "child"}).value();
  const auto holder =
      process->SpawnWith<Holder>({.groups = {{"slow", 2}}}, "Holder", "holder").value();
  Future<Unit> first = holder.Call(&Holder::Hold);
  Future<Unit> second = holder.Call(&Holder::Hold);
  // Both at once, beside what answers here.
  int64_t held = 0;
  while (held < 2) held = holder.Call(&Holder::Held).Get(kPatience).value();
  EXPECT_FALSE(first.ready() || second.ready());
  ASSERT_TRUE(holder.Call(&Holder::Release).Get(kPatience).ok());
  EXPECT_TRUE(first.Get(kPatience).ok() && second.Get(kPatience).ok());
  // Its class says so: without, it is refused there.
  EXPECT_EQ(process->Spawn<Holder>("Holder", "other").status().code(),
            StatusCode::kInvalidArgument);
}

TEST(ProcessOptionsTest, ItHasTheKeysOfItsOwner) {
  RuntimeOptions options;
  options.keys = MakeKeys();
  auto runtime = testing::StartRuntime("owner", options);
  const auto process = Process::Start(*runtime, {.name = "child"}).value();
  const auto slow = process->SpawnWith<Holder>({.groups = {{"slow", 1}}}, "Holder", "holder");
  ASSERT_TRUE(slow.ok()) << slow.status();
  EXPECT_EQ(slow->Call(&Holder::Held).Get(kPatience).value(), 0);
  // Who has none is not let in there.
  auto stranger = testing::StartRuntime("stranger");
  EXPECT_FALSE(stranger->Connect(process->endpoint(), "holder", Milliseconds(300)).ok());
}

TEST(ProcessOptionsTest, SpawnOfOneThatEndsAtOnceDoesNotLookForItUntilItsTimeIsOver) {
  auto runtime = testing::StartRuntime("owner");
  const auto process = Process::Start(*runtime, {.name = "child"}).value();
  for (int k = 0; k < 10; ++k) {
    const Status status = process->Spawn<Mayfly>("Mayfly", "mayfly", true).status();
    if (status.ok() || status.code() == StatusCode::kAlreadyExists) continue;  // it still was there
    EXPECT_EQ(status, PeerDied("child:mayfly has died: actor \"mayfly\": OnStart threw: no wings"));
  }
  const Status status = process->Spawn<Mayfly>("Mayfly", "other", false).status();
  if (!status.ok()) {
    EXPECT_EQ(status.code(), StatusCode::kPeerDied) << status;
    EXPECT_NE(status.message().find("signal 6; its last words: "), std::string::npos) << status;
    EXPECT_NE(status.message().find("I abort"), std::string::npos) << status;
  }
}

TEST(ProcessOptionsTest, ConnectEndsWithTheProcess) {
  auto runtime = testing::StartRuntime("owner");
  const auto process = Process::Start(*runtime, {.name = "child"}).value();
  StatusOr<ActorRef> nobody = Internal("not asked");
  std::thread caller([&] { nobody = process->Connect("nobody", kPatience); });
  ASSERT_TRUE(process->Signal(SIGKILL).ok());
  caller.join();
  EXPECT_EQ(nobody.status(), PeerDied("process child: signal 9"));
}

TEST(ProcessOptionsTest, AnOrderlyEndMayTakeAsLongAsItsOwnerSays) {
  auto runtime = testing::StartRuntime("owner");
  const auto process = Process::Start(*runtime, {.name = "child"}).value();
  ASSERT_TRUE(process->Spawn<Slow>("Slow", "slow").ok());
  const ProcessEnd end = process->Stop(kPatience);
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_NE(end.last_words.find("all is saved"), std::string::npos) << end.ToString();
}

TEST(ProcessOptionsTest, ANameIsTakenAsLongAsItsProcessRuns) {
  auto runtime = testing::StartRuntime("owner");
  auto process = Process::Start(*runtime, {.name = "child"}).value();
  EXPECT_EQ(Process::Start(*runtime, {.name = "child"}).status().code(),
            StatusCode::kAlreadyExists);
  EXPECT_TRUE(process->Spawn<Slow>("Slow", "slow").ok()) << "it was left alone";
  process->Stop(kPatience);
  process = Process::Start(*runtime, {.name = "child"}).value();
  process.reset();
  EXPECT_TRUE(Process::Start(*runtime, {.name = "child"}).ok());
  // One that does not start takes none.
  for (int k = 0; k < 2; ++k) {
    EXPECT_EQ(Process::Start(*runtime, {.name = "other", .program = "/nowhere"}).status().code(),
              StatusCode::kNotFound);
  }
}

TEST(ProcessOptionsTest, ItIsReachedWhateverItsOwnerConnectsToAndHoweverManyItLetsIn) {
  RuntimeOptions options;
  options.keys = MakeKeys();
  options.keys->server_public_key = MakeKeys().public_key;  // a coordinator's, for instance
  for (int k = 0; k < 2000; ++k) options.keys->allowed.push_back(MakeKeys().public_key);
  auto runtime = testing::StartRuntime("owner", options);
  const auto process = Process::Start(*runtime, {.name = "child"}).value();
  const auto slow = process->Spawn<Slow>("Slow", "slow");
  EXPECT_TRUE(slow.ok()) << slow.status();
}

TEST(ProcessOptionsTest, AnEndIsOrderlyAlthoughAnActorIsStuck) {
  auto runtime = testing::StartRuntime("owner");
  const auto process = Process::Start(*runtime, {.name = "child"}).value();
  const auto holder =
      process->SpawnWith<Holder>({.groups = {{"slow", 1}}}, "Holder", "holder").value();
  Future<Unit> stuck = holder.Call(&Holder::Hold);
  int64_t held = 0;
  while (held < 1) held = holder.Call(&Holder::Held).Get(kPatience).value();
  const ProcessEnd end = process->Stop(Seconds(6));
  EXPECT_EQ(end.exit_code, 0) << end.ToString();
  EXPECT_FALSE(stuck.Get(kPatience).ok());
}

TEST(ProcessOptionsTest, TimesOfAnActorThereAreAtMostAYear) {
  auto runtime = testing::StartRuntime("owner");
  const auto process = Process::Start(*runtime, {.name = "child"}).value();
  const ActorRef host = process->Connect("packcast.host").value();
  const ValueMap times{{"max_restarts", 1},
                       {"mailbox_messages", 1},
                       {"backoff_us", INT64_MAX},
                       {"backoff_max_us", INT64_MAX},
                       {"healthy_after_us", INT64_MAX}};
  const ValueMap request{
      {"class", "Slow"}, {"name", "slow"}, {"arguments", ValueArray{}}, {"options", times}};
  const StatusOr<Value> spawned = host.Call("spawn", ValueArray{request}).Get(kPatience);
  EXPECT_TRUE(spawned.ok()) << spawned.status();
}

}  // namespace
}  // namespace packcast

int main(int argc, char** argv) {
  if (const auto code = packcast::RunIfChild(packcast::Classes())) return *code;
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
