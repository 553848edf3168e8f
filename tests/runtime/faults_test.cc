// What docs/actors.md promises of order and outcomes, over a network that fails: random messages,
// random faults, and a ledger of what really ran. The seed of a run that fails is in its message;
// PACKCAST_FAULT_SEEDS=100 runs more.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/clock.h"
#include "tests/runtime/faulty_proxy.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::FaultyProxy;
using testing::kPatience;

constexpr int kCallers = 3;
constexpr int kFaults = 8;
constexpr int64_t kMostMessages = 50'000;  // of each caller

// What ran, by caller, in order. Thread-safe.
class Ledger {
 public:
  void Add(int64_t caller, int64_t number) {
    std::lock_guard lock(mutex_);
    ran_[caller].push_back(number);
  }
  std::vector<int64_t> Of(int64_t caller) {
    std::lock_guard lock(mutex_);
    return ran_[caller];
  }

 private:
  std::mutex mutex_;
  std::map<int64_t, std::vector<int64_t>> ran_;
};

class Callee {
 public:
  explicit Callee(std::shared_ptr<Ledger> ledger) : ledger_(std::move(ledger)) {}
  static void Methods(MethodTable<Callee>& table) { table.Add("run", &Callee::Run); }
  int64_t Run(int64_t caller, int64_t number, const std::string&) {
    ledger_->Add(caller, number);
    return number;
  }

 private:
  const std::shared_ptr<Ledger> ledger_;
};

enum class Kind { kTell, kCall, kIdempotent };

struct Sent {
  Kind kind = Kind::kTell;
  Status tell;
  Future<int64_t> reply;
};

RuntimeOptions Quick() {
  RuntimeOptions options;
  options.beat_interval = Milliseconds(5);
  options.suspect_after = Milliseconds(40);
  options.unreachable_after = Milliseconds(80);
  return options;
}

// Sends messages of all kinds, numbered; a bound of them is open at a time.
class Caller {
 public:
  Caller(Runtime* runtime, std::string endpoint, int64_t name, uint64_t seed)
      : runtime_(runtime), endpoint_(std::move(endpoint)), name_(name), random_(seed) {}

  void RunUntil(const std::atomic<bool>* is_over) {
    Connect();
    for (int64_t number = 0; number < kMostMessages && !*is_over; ++number) {
      Send(number);
      // Now and then it waits for what is open, so that faults meet all depths.
      if (Chance(16)) Settle();
    }
    Settle();
  }

  // After all has ended.
  void Check(const std::vector<int64_t>& ran) const {
    std::map<int64_t, int> times;
    for (int64_t number : ran) ++times[number];
    for (const auto& [number, count] : times) {
      ASSERT_EQ(count, 1) << "message " << number << " ran more than once";
    }
    for (size_t k = 0; k < sent_.size(); ++k) {
      CheckOne(static_cast<int64_t>(k), times.count(static_cast<int64_t>(k)) != 0);
    }
    // Those that are not sent again come in order.
    std::vector<int64_t> once;
    for (int64_t number : ran) {
      if (sent_[static_cast<size_t>(number)].kind != Kind::kIdempotent) once.push_back(number);
    }
    EXPECT_TRUE(std::is_sorted(once.begin(), once.end())) << ::testing::PrintToString(once);
  }

  size_t failed() const { return failed_; }

 private:
  bool Chance(uint64_t in) { return random_() % in == 0; }
  void Connect() {
    const auto ref = runtime_->Connect(endpoint_, "callee", kPatience);
    ASSERT_TRUE(ref.ok()) << ref.status();
    ref_.emplace(*ref);
  }
  void Send(int64_t number) {
    Sent sent;
    // Some leave the batch.
    const std::string text(Chance(20) ? 8192 : 8, 'x');
    sent.kind = static_cast<Kind>(random_() % 3);
    if (sent.kind == Kind::kTell) {
      sent.tell = ref_->Tell(&Callee::Run, name_, number, text);
    } else {
      const CallOptions options{.deadline = Milliseconds(Chance(4) ? 30 : 5000),
                                .idempotent = sent.kind == Kind::kIdempotent};
      sent.reply = ref_->CallWith(options, &Callee::Run, name_, number, text);
    }
    sent_.push_back(std::move(sent));
  }
  void Settle() {
    bool is_lost = false;
    for (; settled_ < sent_.size(); ++settled_) {
      const Sent& sent = sent_[settled_];
      const Status status =
          sent.kind == Kind::kTell ? sent.tell : sent.reply.Get(kPatience).status();
      failed_ += status.ok() ? 0 : 1;
      is_lost = is_lost || status.code() == StatusCode::kPeerDied;
    }
    if (is_lost) Connect();
  }
  void CheckOne(int64_t number, bool has_run) const {
    const Sent& sent = sent_[static_cast<size_t>(number)];
    if (sent.kind == Kind::kTell) {
      EXPECT_TRUE(sent.tell.ok() || !has_run) << "a refused tell ran: " << number;
      return;
    }
    ASSERT_TRUE(sent.reply.ready()) << "call " << number << " has no result";
    const StatusOr<int64_t> reply = sent.reply.Get(Duration(0));
    if (reply.ok()) {
      EXPECT_EQ(*reply, number) << "another call's reply";
      EXPECT_TRUE(has_run) << number;
    } else if (reply.status().outcome() == Outcome::kNotExecuted) {
      EXPECT_FALSE(has_run) << number << " ran, but " << reply.status();
    } else if (reply.status().outcome() == Outcome::kExecuted) {
      EXPECT_TRUE(has_run) << number << " did not run, but " << reply.status();
    }
  }

  Runtime* const runtime_;
  const std::string endpoint_;
  const int64_t name_;
  std::mt19937_64 random_;
  std::optional<TypedRef<Callee>> ref_;
  std::vector<Sent> sent_;
  size_t settled_ = 0;
  size_t failed_ = 0;
};

// One fault after the other; then the network is well again.
void Disturb(FaultyProxy* network, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pause = [&](uint64_t most_us) {
    std::this_thread::sleep_for(Microseconds(static_cast<int64_t>(random() % most_us)));
  };
  for (int k = 0; k < kFaults; ++k) {
    pause(20'000);
    switch (random() % 5) {
      case 0: network->Cut(); break;
      case 1: network->Stall(true, false); break;
      case 2: network->Stall(false, true); break;
      case 3: network->Stall(true, true); break;
      default: network->Refuse(true); network->Cut();
    }
    // Up to beyond unreachable_after.
    pause(120'000);
    if (random() % 4 == 0) network->Cut();
    network->Stall(false, false);
    network->Refuse(false);
  }
}

// How many messages failed.
size_t RunSeed(uint64_t seed) {
  auto ledger = std::make_shared<Ledger>();
  auto server = testing::StartRuntime("server", Quick());
  auto client = testing::StartRuntime("client", Quick());
  EXPECT_TRUE(NewActor<Callee>(*server, ledger).Name("callee").Spawn().ok());
  FaultyProxy network(server->endpoint());
  std::vector<Caller> callers;
  for (int64_t k = 0; k < kCallers; ++k) {
    callers.emplace_back(client.get(), network.endpoint(), k, seed * kCallers + k);
  }
  std::atomic<bool> is_over{false};
  std::vector<std::thread> running;
  for (Caller& caller : callers) running.emplace_back([&] { caller.RunUntil(&is_over); });
  Disturb(&network, seed);
  is_over = true;
  for (std::thread& thread : running) thread.join();
  // The network is well: everything works again.
  const auto ref = client->Connect(network.endpoint(), "callee", kPatience);
  EXPECT_TRUE(ref.ok()) << ref.status();
  if (ref.ok()) {
    TypedRef<Callee> callee(*ref);
    const CallOptions options{.deadline = kPatience, .idempotent = true};
    EXPECT_TRUE(callee.CallWith(options, &Callee::Run, kCallers, 0, "").Get(kPatience).ok());
  }
  // What is queued there runs, and nothing follows.
  network.Cut();
  client->Shutdown(kPatience);
  server->Shutdown(kPatience);
  size_t failed = 0;
  for (int64_t k = 0; k < kCallers; ++k) {
    callers[static_cast<size_t>(k)].Check(ledger->Of(k));
    failed += callers[static_cast<size_t>(k)].failed();
  }
  return failed;
}

TEST(FaultsTest, OrderAndOutcomesHoldOverANetworkThatFails) {
  const char* wanted = std::getenv("PACKCAST_FAULT_SEEDS");
  const uint64_t seeds = wanted == nullptr ? 12 : std::strtoull(wanted, nullptr, 10);
  const char* first = std::getenv("PACKCAST_FAULT_SEED");
  const uint64_t begin = first == nullptr ? 1 : std::strtoull(first, nullptr, 10);
  size_t failed = 0;
  for (uint64_t seed = begin; seed < begin + seeds && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    failed += RunSeed(seed);
  }
  EXPECT_GT(failed, 0u) << "the faults did no harm: then nothing was tested";
  std::printf("%zu messages failed\n", failed);
}

}  // namespace
}  // namespace packcast
