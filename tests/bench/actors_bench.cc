// Call latency and message rates of the actor runtime, in the loop shapes of Ray's microbenchmark
// (ray_perf.py: sync = one get per call, async = 1,000 in flight), beside bare yardsticks of the
// same run. Prints one table. bazel run //tests/bench:actors
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/actor/new_actor.h"
#include "runtime/actor/runtime.h"
#include "runtime/base/check.h"
#include "tests/bench/yardsticks.h"

namespace packcast::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kSyncCalls = 1000;
constexpr int kTurns = 8;
constexpr int kAsyncCalls = 100'000;
constexpr int kInFlight = 1000;
constexpr int kTells = 400'000;

class Counter {
 public:
  static void Methods(MethodTable<Counter>& table) {
    table.Add("add", &Counter::Add).Add("bump", &Counter::Bump).Add("get", &Counter::Get);
    table.Add("take", &Counter::Take).Add("take_range", &Counter::TakeRange);
  }
  int64_t Add(int64_t n) { return value_ += n; }
  void Bump() { ++value_; }
  int64_t Get() { return value_; }
  uint64_t Take(const Bytes& bytes) { return bytes.size(); }
  uint64_t TakeRange(const ByteRange& range) { return range.size(); }

 private:
  int64_t value_ = 0;
};

void Row(const char* what, double value, const char* unit, const std::string& beside = "") {
  std::printf("%-44s %12.1f %-10s %s\n", what, value, unit, beside.c_str());
  std::fflush(stdout);
}

std::string Ratio(double ours, double yardstick, const char* of) {
  char text[64];
  std::snprintf(text, sizeof text, "%.2fx %s", ours / yardstick, of);
  return text;
}

Latencies SyncCalls(const ActorRef& counter) {
  Latencies out;
  for (int k = 0; k < kSyncCalls; ++k) {
    const auto begin = Clock::now();
    counter.Call("get", ValueArray{}).Get(Seconds(10)).value();
    out.us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
  }
  return out;
}

// Local and remote calls, one at a time, beside a condition variable and a bare echo, with both
// sides placed alike. In turns, so that a busy moment of the machine meets all of them.
void SyncCallsBesideYardsticks(const char* name, const Placement& where) {
  StayOn(where.callee);
  auto server = Runtime::Start({.name = "server"}).value();
  StayOn(where.caller);
  auto client = Runtime::Start({.name = "client", .bind = ""}).value();
  const ActorRef local = server->Spawn("counter", std::make_unique<Hosted<Counter>>()).value();
  const ActorRef remote = client->Connect(server->endpoint(), "counter", Seconds(10)).value();
  Latencies ping_pong, echo, local_calls, remote_calls;
  for (int turn = 0; turn < kTurns; ++turn) {
    ping_pong.Add(ConditionVariablePingPong(kSyncCalls, where));
    echo.Add(ZmqEcho(kSyncCalls, where));
    StayOn(where.caller);
    local_calls.Add(SyncCalls(local));
    remote_calls.Add(SyncCalls(remote));
  }
  StayOn({});
  const double bare_local = ping_pong.Percentile(0.5), bare_remote = echo.Percentile(0.5);
  const double our_local = local_calls.Percentile(0.5), our_remote = remote_calls.Percentile(0.5);
  std::printf("one round trip at a time, %s:\n", name);
  Row("  condition variable ping-pong, p50", bare_local, "us");
  Row("  local 1:1 sync call, p50", our_local, "us", Ratio(our_local, bare_local, "ping-pong"));
  Row("  bare ZeroMQ echo over TCP, p50", bare_remote, "us");
  Row("  remote 1:1 sync call, p50", our_remote, "us", Ratio(our_remote, bare_remote, "bare echo"));
}

int64_t Number(const Value& value) {
  int64_t number = 0;
  value.GetInt(&number);
  return number;
}

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Calls per second with `kInFlight` open, spread over `counters`.
double AsyncCalls(const std::vector<ActorRef>& counters) {
  std::vector<Future<Value>> open(kInFlight);
  const auto begin = Clock::now();
  for (int k = 0; k < kAsyncCalls; ++k) {
    Future<Value>& slot = open[static_cast<size_t>(k % kInFlight)];
    if (slot.valid()) slot.Get(Seconds(10)).value();
    slot = counters[static_cast<size_t>(k) % counters.size()].Call("get", ValueArray{});
  }
  for (Future<Value>& future : open) future.Get(Seconds(10)).value();
  return kAsyncCalls / SecondsSince(begin);
}

// The same from as many threads as there are callees, each with all of them.
double AsyncCallsFromAll(const std::vector<ActorRef>& counters) {
  std::vector<std::thread> callers;
  const auto begin = Clock::now();
  for (size_t k = 0; k < counters.size(); ++k) {
    callers.emplace_back([&] { AsyncCalls(counters); });
  }
  for (std::thread& caller : callers) caller.join();
  return static_cast<double>(counters.size()) * kAsyncCalls / SecondsSince(begin);
}

// Tells per second, until the last one was handled. A tell that finds the callee's mailbox full is
// dropped there, so the sender keeps within it: at most two strides are under way.
double Tells(const ActorRef& counter, const std::function<Status()>& tell) {
  constexpr int kStride = 16'384;
  const auto count = [&] { return counter.Call("get", ValueArray{}); };
  const int64_t before = Number(count().Get(Seconds(10)).value());
  Future<Value> handled = count();
  const auto begin = Clock::now();
  for (int k = 0; k < kTells; ++k) {
    // A full window is back-pressure: let the callee run.
    while (!tell().ok()) std::this_thread::yield();
    if (k % kStride == 0) std::exchange(handled, count()).Get(Seconds(10)).value();
  }
  const int64_t lost = before + kTells - Number(count().Get(Seconds(10)).value());
  PC_CHECK(lost == 0) << lost << " tells were lost";
  return kTells / SecondsSince(begin);
}

double Tells(const ActorRef& counter) {
  return Tells(counter, [&] { return counter.Tell("bump", ValueArray{}); });
}

double TypedTells(const TypedRef<Counter>& counter) {
  return Tells(counter.ref(), [&] { return counter.Tell(&Counter::Bump); });
}

// One call at a time with 8 MiB, as bytes that the message copies and as a range that it does not:
// MB/s. In turns.
void LargeArguments(const TypedRef<Counter>& counter) {
  constexpr int kCalls = 20;
  const Bytes bytes(8u << 20, std::byte{1});
  const ByteRange range = bytes;
  double copied = 0, shared = 0;
  for (int turn = 0; turn < kTurns; ++turn) {
    auto begin = Clock::now();
    for (int k = 0; k < kCalls; ++k) counter.Call(&Counter::Take, bytes).Get(Seconds(10)).value();
    copied += SecondsSince(begin);
    begin = Clock::now();
    for (int k = 0; k < kCalls; ++k) {
      counter.Call(&Counter::TakeRange, range).Get(Seconds(10)).value();
    }
    shared += SecondsSince(begin);
  }
  const double megabytes = kTurns * kCalls * static_cast<double>(bytes.size()) / 1e6;
  Row("remote call with 8 MiB of bytes", megabytes / copied, "MB/s");
  Row("remote call with a byte range of 8 MiB", megabytes / shared, "MB/s",
      Ratio(copied, shared, "bytes"));
}

// Resident memory of this process, MB.
double ResidentMegabytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t size = 0, resident = 0;
  statm >> size >> resident;
  return static_cast<double>(resident * sysconf(_SC_PAGESIZE)) / 1e6;
}

void IdleActors(Runtime& runtime) {
  constexpr int kIdle = 10'000;
  const double before = ResidentMegabytes();
  std::vector<TypedRef<Counter>> idle;
  for (int k = 0; k < kIdle; ++k) idle.push_back(NewActor<Counter>(runtime).Spawn().value());
  // All have started.
  for (const auto& actor : idle) actor.Call(&Counter::Get).Get(Seconds(10)).value();
  const double all = ResidentMegabytes();
  Row("10,000 idle actors", all - before, "MB",
      "of " + std::to_string(static_cast<int>(all)) + " MB in all");
}

}  // namespace

int Main() {
  SyncCallsBesideYardsticks("one processor", {.caller = 0, .callee = 0});
  SyncCallsBesideYardsticks("two processors", {.caller = 0, .callee = 1});
  SyncCallsBesideYardsticks("anywhere", {});
  auto server = Runtime::Start({.name = "server"}).value();
  auto client = Runtime::Start({.name = "client", .bind = ""}).value();
  std::vector<ActorRef> local, remote;
  for (int k = 0; k < 4; ++k) {
    const std::string name = "counter-" + std::to_string(k);
    local.push_back(server->Spawn(name, std::make_unique<Hosted<Counter>>()).value());
    remote.push_back(client->Connect(server->endpoint(), name, Seconds(10)).value());
  }
  Row("local 1:1 async", AsyncCalls({local[0]}), "calls/s");
  Row("local 1:n async", AsyncCalls(local), "calls/s");
  Row("remote 1:1 async", AsyncCalls({remote[0]}), "calls/s");
  Row("remote 1:n async", AsyncCalls(remote), "calls/s");
  Row("local n:n async", AsyncCallsFromAll(local), "calls/s");
  Row("remote n:n async", AsyncCallsFromAll(remote), "calls/s");
  Row("local tell", Tells(local[0]), "messages/s");
  Row("local typed tell", TypedTells(TypedRef<Counter>(local[0])), "messages/s");
  Row("remote tell", Tells(remote[0]), "messages/s");
  LargeArguments(TypedRef<Counter>(remote[0]));
  IdleActors(*server);
  return 0;
}

}  // namespace packcast::bench

int main() { return packcast::bench::Main(); }
