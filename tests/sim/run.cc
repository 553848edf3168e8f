#include "tests/sim/run.h"

#include <algorithm>

#include "tests/sim/cluster.h"
#include "tests/sim/nemesis.h"
#include "tests/sim/user.h"

namespace packcast::sim {
namespace {

// Longer than any deadline of an epoch and the user's patience together.
constexpr Duration kSettle = Seconds(150);
constexpr Duration kSyncBound = Seconds(30);
constexpr Duration kCatchUpBound = Seconds(60);  // twice the longest pause between two tries
constexpr int kLastSyncs = 2;
// A script that asked for a sync waits an hour for the trainer to make it, by the coordinator's
// clock, which may be slow by a twentieth.
constexpr Duration kControlWait = Seconds(3600 * 20 / 19 + 1);

bool Reaches(const Member& provider, const std::vector<const Member*>& ranks) {
  const auto takes = [&](const Member* rank) {
    return std::any_of(
        rank->offer.transports.begin(), rank->offer.transports.end(), [&](const auto& way) {
          return std::any_of(provider.offer.transports.begin(), provider.offer.transports.end(),
                             [&](const auto& other) { return other.kind == way.kind; });
        });
  };
  return std::all_of(ranks.begin(), ranks.end(), takes);
}

// A replica that is behind, can catch up, and has been left alone for long.
std::string LeftBehind(Cluster* cluster) {
  const CoordinatorShell* shell = cluster->coordinator();
  if (shell == nullptr) return "no coordinator";
  const Standing standing = StandingOf(shell->machine().membership());
  for (const auto& [replica, lacking] : standing.behind) {
    const bool reached =
        std::any_of(standing.providers.begin(), standing.providers.end(),
                    [&](const Member* provider) { return Reaches(*provider, lacking.ranks); });
    if (lacking.can_catch_up && reached) {
      return replica + " is behind " + ToString(standing.newest);
    }
  }
  return "";
}

bool Settle(World* world, Cluster* cluster, User* user) {
  const Time until = world->now() + kSettle;
  // Looking at everything costs more than stepping: look now and then.
  while (true) {
    if (!world->RunUntil(world->now() + Milliseconds(200))) return false;
    const std::string unrest = cluster->Unrest();
    if (const std::string open = user->Open(); !open.empty()) world->Violate("L2: " + open);
    if (unrest.empty()) return true;
    if (world->now() < until) continue;
    world->Violate("L2: long after the last fault " + unrest);
    return false;
  }
}

void Rest(World* world, Cluster* cluster, User* user) {
  if (!Settle(world, cluster, user)) return;
  user->ReadmitAll();
  world->RunUntil(world->now() + kCatchUpBound, [&] { return LeftBehind(cluster).empty(); });
  if (const std::string left = LeftBehind(cluster); !left.empty()) {
    return world->Violate("L1: long after the last fault " + left);
  }
  for (int k = 0; k < kLastSyncs; ++k) {
    user->SyncNow();
    world->RunUntil(world->now() + kSyncBound, [&] { return user->SyncResolved(); });
    if (!user->SyncedAll()) {
      return world->Violate("L1: a sync in peace did not commit: " + user->last_error());
    }
    // The trainers' own ends may still be on their way to idle.
    if (!Settle(world, cluster, user)) return;
    if (const std::string behind = cluster->Behind(); !behind.empty()) {
      return world->Violate("L1: after a sync in peace " + behind);
    }
  }
  world->RunUntil(world->now() + kControlWait);
  if (cluster->coordinator()->open_controls() > 0) world->Violate("L2: a control call is open");
}

}  // namespace

RunResult RunSeed(const RunOptions& options) {
  Scenario scenario = MakeScenario(options.seed, options.workers, options.without);
  if (options.calls != 0) scenario.calls = std::min(scenario.calls, options.calls);
  // Each kind of chance has its own stream: to leave something out changes the others little.
  World world(Mix(options.seed ^ 1), options.mutation, options.lines,
              options.only ? &*options.only : nullptr);
  User user(&world, scenario, Mix(options.seed ^ 2));
  Cluster cluster(
      &world, scenario,
      [&](MemberShell* shell, uint64_t label, const Status& status) {
        user.OnFinished(shell, label, status);
      },
      [&](MemberShell* shell, uint64_t label) { user.OnWanted(shell, label); });
  user.Attach(&cluster);
  Nemesis nemesis(&world, scenario, &cluster, Mix(options.seed ^ 3));
  user.Listen([&] { nemesis.OnCall(); });
  cluster.ListenForCatchUps([&] {
    nemesis.OnCatchUp();
    user.OnCatchUp();
  });
  cluster.SetTrouble(&nemesis);
  nemesis.Begin();
  user.Begin();
  if (world.RunUntil(Time(scenario.unrest))) {
    user.Stop();
    nemesis.Calm();
    cluster.Calm();
    Rest(&world, &cluster, &user);
  }
  if (IsPeaceful(scenario) && world.stats.aborted + world.stats.retries > 0) {
    world.Violate("L1: an epoch was given up without a cause");
  }
  uint32_t workers = 0;
  for (const uint32_t size : scenario.replica_sizes) workers += size;
  return {world.violation(), world.trace.hash(), world.trace.lines(), world.injected(),
          workers,           scenario.calls,     world.stats};
}

}  // namespace packcast::sim
