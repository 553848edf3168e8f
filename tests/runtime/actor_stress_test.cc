// A thousand actors on sixteen threads, called by sixteen threads, by each other and over TCP,
// while they are killed at random from both sides: every call resolves once, its outcome is the
// truth, and who watches is told of each death once.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::FunctionActor;
using testing::kPatience;
using testing::Patient;
using testing::Record;

constexpr int kActors = 1000;
constexpr int kFarEvery = 10;  // of which each so-manieth is called over TCP, too
constexpr int kThreads = 16;   // of the runtime, and as many that call
constexpr int kCallsPerCaller = 2'000;
constexpr int kCalls = kThreads * kCallsPerCaller;
constexpr int kCallsPerKill = 40;  // about
constexpr int kOpenCalls = 64;
// On a machine that is too slow for all of it.
constexpr Duration kMostTime = Seconds(60);

struct Tally {
  std::array<std::atomic<int>, kCalls> runs{};
};

using Clock = std::chrono::steady_clock;

class Victim;
// Written before the first call.
using Victims = std::vector<TypedRef<Victim>>;

class Victim {
 public:
  Victim(std::shared_ptr<Tally> tally, std::shared_ptr<const Victims> all)
      : tally_(std::move(tally)), all_(std::move(all)) {}
  int64_t Run(Context& context, int64_t call) {
    ++tally_->runs[static_cast<size_t>(call)];
    if (call % 997 == 0) context.Fail(Internal("by itself"));
    return call;
  }
  // Another one runs it, at the same runtime.
  Future<int64_t> Relay(int64_t call) {
    return (*all_)[static_cast<size_t>(call) % all_->size()].Call(&Victim::Run, call);
  }
  void Settle() {}
  static void Methods(MethodTable<Victim>& table) {
    table.Add("run", &Victim::Run).Add("relay", &Victim::Relay).Add("settle", &Victim::Settle);
  }

 private:
  const std::shared_ptr<Tally> tally_;
  const std::shared_ptr<const Victims> all_;
};

struct Open {
  int64_t call = 0;
  Future<int64_t> result;
};

class ActorStressTest : public ::testing::Test {
 protected:
  ActorStressTest() {
    for (int k = 0; k < kActors; ++k) {
      RestartOptions restart;
      restart.max_restarts = k % 3 - 1;  // without end, none, one
      restart.backoff = Milliseconds(1);
      restart.backoff_max = Milliseconds(20);
      const std::string name = "victim-" + std::to_string(k);
      const auto spawn = NewActor<Victim>(*server_, tally_, std::shared_ptr<const Victims>(near_))
                             .Name(name)
                             .Restart(restart);
      near_->push_back(spawn.Spawn().value());
      if (k % kFarEvery != 0) continue;
      far_.emplace_back(client_->Connect(server_->endpoint(), name, kPatience).value());
    }
  }
  ~ActorStressTest() override {
    server_->Shutdown(kPatience);
    near_->clear();  // which its actors, that it refers to, have as an argument
  }

  static std::unique_ptr<Runtime> StartWithThreads(const std::string& name) {
    RuntimeOptions options = Patient();
    options.executor_threads = kThreads;
    return testing::StartRuntime(name, options);
  }

  // The names of those of `victims` that die, as an actor at `runtime` is told.
  static std::shared_ptr<Record<std::string>> Deaths(Runtime& runtime, const Victims& victims) {
    auto deaths = std::make_shared<Record<std::string>>();
    auto watcher = std::make_unique<FunctionActor>();
    watcher->on_start = [victims](Context& context) {
      for (const TypedRef<Victim>& victim : victims) context.Monitor(victim.ref());
    };
    watcher->on_peer = [deaths](Context&, const PeerEvent& event) {
      if (event.kind == PeerEvent::Kind::kDied) deaths->Add(event.ref.actor());
    };
    EXPECT_TRUE(runtime.Spawn("watcher", std::move(watcher)).ok());
    return deaths;
  }

  // Whether what the caller was told is what has happened.
  void Check(const Open& open) {
    const StatusOr<int64_t> result = open.result.Get(kPatience);
    const int runs = tally_->runs[static_cast<size_t>(open.call)].load();
    if (result.ok()) {
      EXPECT_EQ(*result, open.call);
      EXPECT_EQ(runs, 1);
      return;
    }
    EXPECT_LE(runs, 1);
    EXPECT_NE(result.status().outcome(), Outcome::kUnknown) << result.status();
    if (result.status().outcome() == Outcome::kNotExecuted) {
      EXPECT_EQ(runs, 0) << result.status();
    }
  }

  void Call(int caller) {
    std::mt19937 random(static_cast<unsigned>(caller));
    const Victims& victims = caller % 2 == 0 ? *near_ : far_;
    std::vector<Open> open(kOpenCalls);
    for (int k = 0; k < kCallsPerCaller && Clock::now() < give_up_; ++k) {
      Open& slot = open[static_cast<size_t>(k % kOpenCalls)];
      if (slot.result.valid()) Check(slot);
      slot.call = int64_t{caller} * kCallsPerCaller + k;
      const TypedRef<Victim>& victim = victims[random() % victims.size()];
      slot.result = random() % 4 == 0 ? victim.Call(&Victim::Relay, slot.call)
                                      : victim.Call(&Victim::Run, slot.call);
      if (random() % 50 == 0) slot.result.Cancel();
      if (random() % kCallsPerKill == 0) Kill(random() % 2 == 0, random() % 2 == 0, random());
    }
    for (const Open& slot : open) {
      if (slot.result.valid()) Check(slot);
    }
  }

  void Kill(bool is_near, bool may_restart, size_t which) {
    const Victims& victims = is_near ? *near_ : far_;
    const ActorRef& victim = victims[which % victims.size()].ref();
    EXPECT_TRUE((is_near ? server_ : client_)->Kill(victim, may_restart).ok());
  }

  // Waits until what was sent to them before has come to them; the names of the dead, sorted.
  static std::vector<std::string> Settle(const Victims& victims) {
    std::vector<Future<Unit>> calls;
    for (const TypedRef<Victim>& victim : victims) calls.push_back(victim.Call(&Victim::Settle));
    std::vector<std::string> dead;
    for (size_t k = 0; k < victims.size(); ++k) {
      if (!calls[k].Get(kPatience).ok()) dead.push_back(victims[k].ref().actor());
    }
    std::sort(dead.begin(), dead.end());
    return dead;
  }

  // Each of the dead once, and nobody else.
  static void ExpectTold(Record<std::string>& deaths, const std::vector<std::string>& dead) {
    EXPECT_TRUE(deaths.WaitForCount(dead.size()));
    std::vector<std::string> told = deaths.items();
    std::sort(told.begin(), told.end());
    EXPECT_EQ(told, dead);
  }

  const std::unique_ptr<Runtime> server_ = StartWithThreads("server");
  const std::unique_ptr<Runtime> client_ = StartWithThreads("client");
  const std::shared_ptr<Tally> tally_ = std::make_shared<Tally>();
  const std::shared_ptr<Victims> near_ = std::make_shared<Victims>();
  Victims far_;
  Clock::time_point give_up_;
};

TEST_F(ActorStressTest, EveryCallIsAnsweredOnceAndTruly) {
  const auto near_deaths = Deaths(*server_, *near_);
  const auto far_deaths = Deaths(*client_, far_);
  give_up_ = Clock::now() + kMostTime;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kThreads; ++caller) {
    callers.emplace_back([this, caller] { Call(caller); });
  }
  for (std::thread& caller : callers) caller.join();

  (void)Settle(far_);
  // A call that was given up may still wait to be relayed, and then to run and to fail: each round
  // is one step.
  std::vector<std::string> dead;
  for (int round = 0; round < 3; ++round) dead = Settle(*near_);
  EXPECT_GT(dead.size(), 0u);
  EXPECT_LT(dead.size(), near_->size());
  ExpectTold(*near_deaths, dead);
  std::vector<std::string> far_dead;
  for (const TypedRef<Victim>& victim : far_) {
    const std::string& name = victim.ref().actor();
    if (std::binary_search(dead.begin(), dead.end(), name)) far_dead.push_back(name);
  }
  std::sort(far_dead.begin(), far_dead.end());
  ExpectTold(*far_deaths, far_dead);
}

}  // namespace
}  // namespace packcast
