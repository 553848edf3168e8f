// The threads that run actors.
#include "runtime/actor/executor.h"

#include <dirent.h>

#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/clock.h"
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
  EXPECT_EQ(Threads(), before) << "they end with the actor";
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

}  // namespace
}  // namespace packcast
