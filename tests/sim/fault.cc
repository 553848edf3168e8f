#include "tests/sim/fault.h"

namespace packcast::sim {

std::string_view FaultName(Fault fault) {
  switch (fault) {
    case Fault::kKillWorker: return "kill-worker";
    case Fault::kKillTrainer: return "kill-trainer";
    case Fault::kKillCoordinator: return "kill-coordinator";
    case Fault::kFreeze: return "freeze";
    case Fault::kSleep: return "sleep";
    case Fault::kZombie: return "zombie";
    case Fault::kTwin: return "twin";
    case Fault::kPartition: return "partition";
    case Fault::kOneWay: return "one-way";
    case Fault::kSwizzle: return "swizzle";
    case Fault::kBulkCut: return "bulk-cut";
    case Fault::kFlap: return "flap";
    case Fault::kReplay: return "replay";
    case Fault::kSlow: return "slow";
    case Fault::kSplitBrain: return "split-brain";
    case Fault::kRival: return "rival";
    case Fault::kTorn: return "torn-step";
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
    case Who::kProvider: return "provider";
    case Who::kCoordinator: return "coordinator";
  }
  return "unknown";
}

bool Befalls(Fault fault, Who who) {
  switch (fault) {
    case Fault::kKillTrainer:
    case Fault::kRival: return who == Who::kTrainer;
    case Fault::kKillWorker: return who == Who::kWorker || who == Who::kProvider;
    case Fault::kInstallFails: return who == Who::kWorker;
    case Fault::kKillCoordinator:
    case Fault::kSplitBrain: return who == Who::kCoordinator;
    case Fault::kFreeze:
    case Fault::kSleep:
    case Fault::kTorn: return true;
    case Fault::kZombie:
    case Fault::kTwin:
    case Fault::kPartition:
    case Fault::kOneWay:
    case Fault::kSwizzle:
    case Fault::kBulkCut:
    case Fault::kFlap:
    case Fault::kReplay:
    case Fault::kSlow:
    case Fault::kRefuse:
    case Fault::kJoinFails:
    case Fault::kStreamFails:
    case Fault::kWedge: return who != Who::kCoordinator;
  }
  return false;
}

}  // namespace packcast::sim
