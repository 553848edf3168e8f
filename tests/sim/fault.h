#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace packcast::sim {

// What goes wrong: from outside (Nemesis, up to kTorn), or in a member's own work (MemberShell).
enum class Fault : uint8_t {
  kKillWorker,
  kKillTrainer,
  kKillCoordinator,
  kFreeze,     // and thawed later: it goes on with all that it had queued
  kSleep,      // the same, and its clock stands still meanwhile
  kZombie,     // frozen, and its name is started again: two lives, the first one comes back
  kTwin,       // the same with one that is cut off and runs on
  kPartition,  // of a member and the coordinator
  kOneWay,
  kSwizzle,  // several links of that kind are cut and heal one by one, in any order
  kBulkCut,  // of two members' links for bytes
  kFlap,     // a connection breaks and is made again
  kReplay,   // and then what it had carried comes once more
  kSlow,
  kSplitBrain,  // another coordinator begins while the first one is frozen or cut off, and back
  kRival,       // a trainer of another unit wants to take over
  kTorn,        // killed or frozen between two effects of one step
  kRefuse,
  kJoinFails,
  kStreamFails,
  kInstallFails,
  kWedge,
};
inline constexpr size_t kFaults = 22;
inline constexpr size_t kFaultsFromOutside = 17;  // the first ones
std::string_view FaultName(Fault fault);

// Who is struck.
enum class Who : uint8_t {
  kTrainer,
  kWorker,
  kProvider,  // a worker that others catch up from, once it knows
  kCoordinator,
};
inline constexpr size_t kWhos = 4;
std::string_view WhoName(Who who);

// Whether the simulation strikes such a one so.
bool Befalls(Fault fault, Who who);

}  // namespace packcast::sim
