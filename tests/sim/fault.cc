#include "tests/sim/fault.h"

namespace packcast::sim {

std::string_view FaultName(Fault fault) {
  switch (fault) {
    case Fault::kKillWorker: return "kill-worker";
    case Fault::kKillTrainer: return "kill-trainer";
    case Fault::kKillCoordinator: return "kill-coordinator";
    case Fault::kFreeze: return "freeze";
    case Fault::kZombie: return "zombie";
    case Fault::kPartition: return "partition";
    case Fault::kOneWay: return "one-way";
    case Fault::kFlap: return "flap";
    case Fault::kSlow: return "slow";
    case Fault::kRefuse: return "refuse";
    case Fault::kJoinFails: return "join-fails";
    case Fault::kStreamFails: return "stream-fails";
    case Fault::kInstallFails: return "install-fails";
    case Fault::kWedge: return "wedge";
  }
  return "unknown";
}

std::string_view WhoName(Who who) {
  switch (who) {
    case Who::kTrainer: return "trainer";
    case Who::kWorker: return "worker";
    case Who::kCoordinator: return "coordinator";
  }
  return "unknown";
}

bool Befalls(Fault fault, Who who) {
  if (fault == Fault::kKillTrainer) return who == Who::kTrainer;
  if (fault == Fault::kKillWorker) return who == Who::kWorker;
  if (fault == Fault::kKillCoordinator) return who == Who::kCoordinator;
  if (who == Who::kCoordinator) return fault == Fault::kFreeze;
  return who == Who::kWorker || fault != Fault::kInstallFails;
}

}  // namespace packcast::sim
