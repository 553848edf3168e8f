// A thousand actors on sixteen threads, called from here and over TCP while they are killed at
// random: every call resolves once, and its outcome is the truth.
#include <array>
#include <atomic>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::kPatience;
using testing::Patient;

constexpr int kActors = 1000;
constexpr int kCallers = 4;
constexpr int kCallsPerCaller = 8'000;
constexpr int kKills = 600;
constexpr int kOpenCalls = 64;

struct Tally {
  std::array<std::atomic<int>, size_t{kCallers} * kCallsPerCaller> runs{};
};

class Victim {
 public:
  explicit Victim(std::shared_ptr<Tally> tally) : tally_(std::move(tally)) {}
  int64_t Run(Context& context, int64_t call) {
    ++tally_->runs[static_cast<size_t>(call)];
    if (call % 997 == 0) context.Fail(Internal("by itself"));
    return call;
  }
  static void Methods(MethodTable<Victim>& table) { table.Add("run", &Victim::Run); }

 private:
  const std::shared_ptr<Tally> tally_;
};

struct Open {
  int64_t call = 0;
  Future<int64_t> result;
};

// Whether what the caller was told is what has happened.
void Check(const Tally& tally, const Open& open) {
  const StatusOr<int64_t> result = open.result.Get(kPatience);
  const int runs = tally.runs[static_cast<size_t>(open.call)].load();
  if (result.ok()) {
    EXPECT_EQ(*result, open.call);
    EXPECT_EQ(runs, 1);
    return;
  }
  EXPECT_LE(runs, 1);
  ASSERT_NE(result.status().outcome(), Outcome::kUnknown) << result.status();
  if (result.status().outcome() == Outcome::kNotExecuted) {
    EXPECT_EQ(runs, 0) << result.status();
  }
}

TEST(ActorStressTest, EveryCallIsAnsweredOnceAndTruly) {
  RuntimeOptions options = Patient();
  options.name = "server";
  options.executor_threads = 16;
  const auto server = Runtime::Start(options).value();
  const auto client = testing::StartRuntime("client", Patient());
  const auto tally = std::make_shared<Tally>();
  std::vector<TypedRef<Victim>> near, far;
  for (int k = 0; k < kActors; ++k) {
    RestartOptions restart;
    restart.max_restarts = k % 3 - 1;  // without end, none, one
    restart.backoff = Milliseconds(1);
    const std::string name = "victim-" + std::to_string(k);
    near.push_back(NewActor<Victim>(*server, tally).Name(name).Restart(restart).Spawn().value());
    if (k % 10 != 0) continue;
    far.emplace_back(client->Connect(server->endpoint(), name, kPatience).value());
  }
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&, caller] {
      std::mt19937 random(static_cast<unsigned>(caller));
      const std::vector<TypedRef<Victim>>& victims = caller % 2 == 0 ? near : far;
      std::vector<Open> open(kOpenCalls);
      for (int k = 0; k < kCallsPerCaller; ++k) {
        Open& slot = open[static_cast<size_t>(k % kOpenCalls)];
        if (slot.result.valid()) Check(*tally, slot);
        slot.call = int64_t{caller} * kCallsPerCaller + k;
        slot.result = victims[random() % victims.size()].Call(&Victim::Run, slot.call);
        if (random() % 50 == 0) slot.result.Cancel();
      }
      for (const Open& slot : open) Check(*tally, slot);
    });
  }
  std::thread killer([&] {
    std::mt19937 random(99);
    for (int k = 0; k < kKills; ++k) {
      const TypedRef<Victim>& victim = near[random() % near.size()];
      EXPECT_TRUE(server->Kill(victim.ref(), /*restart=*/random() % 2 == 0).ok());
      std::this_thread::yield();
    }
  });
  for (std::thread& caller : callers) caller.join();
  killer.join();
}

}  // namespace
}  // namespace packcast
