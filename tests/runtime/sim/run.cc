#include "tests/runtime/sim/run.h"

#include <cstdlib>
#include <functional>
#include <memory>
#include <utility>

#include "runtime/base/log.h"
#include "tests/runtime/sim/nemesis.h"
#include "tests/runtime/sim/servant.h"
#include "tests/runtime/sim/world.h"

namespace packcast::rtsim {
namespace {

// In peace all calls have ended by then.
// So long connections take to come back, and news of what has ended to come.
constexpr Duration kSettle = Seconds(4);
constexpr Duration kPeace = Seconds(30);

KernelOptions KernelFor(const RunOptions& options) {
  Random random(options.seed ^ 0x6b65726e656cu);
  KernelOptions kernel{.seed = options.seed, .record = options.record};
  constexpr double kPreempt[] = {0.0, 0.01, 0.05, 0.3};
  constexpr double kStall[] = {0.0, 0.0, 0.0005, 0.005};
  kernel.preempt = kPreempt[random.Below(4)];
  kernel.stall = kStall[random.Below(4)];
  return kernel;
}

Weather WeatherFor(const RunOptions& options) {
  Random random(options.seed ^ 0x77656174686572u);
  Weather weather;
  if (random.Chance(0.3)) weather.latency_max = Milliseconds(5);
  if (random.Chance(0.3)) weather.spike = 0.1;
  if (random.Chance(0.2)) weather.spike_max = Milliseconds(100);
  if (random.Chance(0.3)) weather.wire_messages = 2;
  if (random.Chance(0.3)) weather.high_water = static_cast<size_t>(random.Between(1, 8));
  return weather;
}

// One call of an actor.
Status AskOne(Life& from, const std::string& host, const std::string& name) {
  World& world = from.world();
  constexpr Duration kPatience = Seconds(5);
  PC_ASSIGN_OR_RETURN(const ActorRef ref,
                      from.runtime().Connect(from.world().EndpointOf(host), name, kPatience));
  Job* const job = world.ledger.NewJob(0, host + "/" + name);
  job->kind = Kind::kIdempotent;
  job->deadline = world.kernel.now() + kPatience;
  world.ledger.Sent(job, nullptr);
  const CallOptions options{.deadline = kPatience, .idempotent = true};
  const StatusOr<int64_t> reply = TypedRef<Servant>(ref)
                                      .CallWith(options, &Servant::Default, job->id, job->Padding())
                                      .Get(kPatience + Seconds(1));
  world.ledger.Resolved(job, reply);
  return reply.status();
}

// It can be called: once what happened before is known, what is in its mailbox has run, and another
// is there in the place of one that ended.
Status ProbeOne(Life& from, const std::string& host, const std::string& name) {
  Kernel& kernel = from.world().kernel;
  const Time end = kernel.now() + Seconds(20);
  while (true) {
    from.KeepServants();
    const Status status = AskOne(from, host, name);
    if (SaysReplaced(status.message())) from.OnReplaced();
    if (status.ok() || from.is_over()) return OkStatus();
    if (kernel.now() >= end) return status;
    kernel.Sleep(Milliseconds(100));
  }
}

// Everything works again, from each process to each actor.
void ProbeFrom(Life& from) {
  World& world = from.world();
  for (const std::string& host : world.scenario.hosts) {
    for (const ServantPlan& plan : world.scenario.servants) {
      if (plan.sends) continue;
      const Status status = ProbeOne(from, host, plan.name);
      if (status.ok()) continue;
      world.ledger.Violated("in peace " + from.host() + " cannot call " + host + "/" + plan.name +
                            ": " + status.ToString());
    }
  }
}

// On the main thread of each process, at once.
void ForAll(World* world, const std::function<void(Life&)>& work) {
  size_t under_way = 0;
  for (const auto& [host, life] : world->lives) {
    const bool is_told = life->Order([&under_way, &work, world](Life& here) {
      if (!here.is_over()) work(here);
      if (--under_way == 0) world->kernel.WakeAll(&under_way);
    });
    under_way += is_told ? 1 : 0;
  }
  while (under_way > 0) world->kernel.Wait(&under_way);
}

// Until nothing is missing. What takes longest: a question that is lost with its connection is put
// again after 10 s, and actors may have much to do.
void Await(World* world, const std::function<std::string()>& missing) {
  const Time end = world->kernel.now() + Seconds(60);
  while (!missing().empty() && world->kernel.now() < end) world->kernel.Sleep(Milliseconds(200));
  if (!missing().empty()) world->ledger.Violated(missing());
}

void Direct(World* world) {
  Kernel& kernel = world->kernel;
  world->outside = kernel.process();
  for (const std::string& host : world->scenario.hosts) Life::Begin(world, host, true);
  Nemesis nemesis(world);
  nemesis.RunFor(world->scenario.faults);
  nemesis.MakePeace();
  kernel.Note("world", "peace", 0, [] { return std::string(); });
  world->watches.AtPeace();
  world->is_quiet = true;
  const Time end = kernel.now() + kPeace;
  if (world->random.Chance(0.5)) kernel.Sleep(kSettle);
  // Of twins one is told that it is out, and another one begins.
  for (size_t told = SIZE_MAX; !world->twins.empty() && told != world->supervisors.size();) {
    told = world->supervisors.size();
    kernel.Sleep(kSettle);
    world->JoinSupervised();
  }
  while (world->ledger.Open() > 0 && kernel.now() < end) kernel.Sleep(Milliseconds(100));
  ForAll(world, ProbeFrom);
  // News of what happens now reaches all.
  kernel.Sleep(Seconds(2));
  ForAll(world, [](Life& life) { life.FailServants(); });
  kernel.Sleep(Seconds(1));
  Await(world, [world] { return world->ledger.WhatIsMissing(); });
  Await(world, [world] { return world->watches.WhatIsMissing(); });
  world->is_ending = true;
  for (const auto& [host, life] : world->lives) life->End(false);
  for (const auto& [host, life] : world->lives) life->Join();
  world->JoinSupervised();
  nemesis.Join();
  world->watches.Clear();
}

}  // namespace

void Stats::Add(const Stats& other) {
  steps += other.steps;
  messages += other.messages;
  lost += other.lost;
  jobs += other.jobs;
  ran += other.ran;
  failed += other.failed;
  refused += other.refused;
}

std::string Stats::ToString() const {
  return "steps " + std::to_string(steps) + ", messages " + std::to_string(messages) + " lost " +
         std::to_string(lost) + ", jobs " + std::to_string(jobs) + " ran " + std::to_string(ran) +
         " calls failed " + std::to_string(failed) + " tells refused " + std::to_string(refused);
}

RunResult RunSeed(const RunOptions& options) {
  setenv("PACKCAST_SPIN_US", "0", 1);  // before anything asks for it
  if (std::getenv("PACKCAST_LOG") == nullptr) SetLogLevel(LogLevel::kOff);
  auto owned = std::make_unique<World>(KernelFor(options), WeatherFor(options));
  World& world = *owned;
  Random random(options.seed ^ 0x7363656e6172696fu);
  world.scenario = MakeScenario(&random);
  const std::string failure = world.kernel.Run([&world] { Direct(&world); });
  // Threads that never ended have what they will not give back.
  if (!failure.empty()) (void)owned.release();
  RunResult result;
  if (failure.empty()) world.ledger.CheckEnd();
  result.violation = world.ledger.violation();
  if (result.violation.empty()) result.violation = failure;
  result.trace_hash = world.kernel.hash();
  result.trace = world.kernel.trace().lines();
  result.stats = {.steps = world.kernel.steps(),
                  .messages = world.network.delivered(),
                  .lost = world.network.lost(),
                  .jobs = world.ledger.jobs().size()};
  for (const Job& job : world.ledger.jobs()) {
    result.stats.ran += job.where != nullptr ? 1 : 0;
    result.stats.failed += job.result && !job.result->ok() ? 1 : 0;
    result.stats.refused += job.is_refused ? 1 : 0;
  }
  return result;
}

}  // namespace packcast::rtsim
