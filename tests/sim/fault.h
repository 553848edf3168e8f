#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace packcast::sim {

// What goes wrong, from outside (Nemesis) or in a member's own work (MemberShell).
enum class Fault : uint8_t {
  kKillWorker,
  kKillTrainer,
  kKillCoordinator,
  kFreeze,
  kZombie,
  kPartition,
  kOneWay,
  kFlap,
  kSlow,
  kRefuse,
  kJoinFails,
  kStreamFails,
  kInstallFails,
  kWedge,
};
inline constexpr size_t kFaults = 14;
std::string_view FaultName(Fault fault);

// Who is struck.
enum class Who : uint8_t { kTrainer, kWorker, kCoordinator };
inline constexpr size_t kWhos = 3;
std::string_view WhoName(Who who);

// Whether the simulation strikes such a one so.
bool Befalls(Fault fault, Who who);

}  // namespace packcast::sim
