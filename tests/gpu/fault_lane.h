#pragma once

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "protocol/contract.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "tests/gpu/trial.h"

namespace packcast::trial {

// One cell of the fault matrix.
struct FaultCell {
  bool p2p = true;    // else P2P and SHM are off, and bytes go over sockets
  std::string point;  // "init", "warmup", "enqueue", "wire", or "any": a random time
  Role victim = Role::kWorker;
  int signal = SIGKILL;
};

std::string TransportName(bool on_host, bool p2p);
// "worker kill wire".
std::string CellName(const FaultCell& cell);

// What is allowed, and what a lane needs to know.
struct FaultOptions {
  TrialOptions trial;      // for NVLink
  WeightSize socket_size;  // for sockets
  Duration detect_max = Seconds(1);
  Duration abort_max = Seconds(2);
  Duration round_max = Seconds(30);
  Time end = Time::max();  // of all waits
  size_t standbys = 2;     // processes that are coming up, to take a victim's place
  int deep_every = 5;      // rounds, after which the worker's memory is read back
};

struct FaultTimes {
  double detect_ms = 0;   // from the fault to the victim's name
  double abort_ms = 0;    // from the first word of trouble to the survivor's word that it has ended
  double recover_ms = 0;  // from the victim's name to the next committed sync
  uint64_t attempts = 1;  // of that sync
  std::string late;       // which of them took too long; empty: none
};

// A cluster of a trainer and a worker in processes of their own, of which one is hurt again and
// again, while processes that will take its place are coming up. One thread's.
class FaultLane {
 public:
  FaultLane(FaultOptions options, uint64_t seed) : options_(std::move(options)), random_(seed) {}
  ~FaultLane();

  // One fault and the recovery from it. After an error all processes are started anew.
  StatusOr<FaultTimes> Round(const FaultCell& cell, int round);
  // Brings up what the first round of a cell needs. What fails here fails again there, and is said.
  void Prepare(const FaultCell& cell);
  // The process that has seen all rounds since the last error.
  pid_t survivor(const FaultCell& cell) const;

 private:
  using ProcessPtr = std::unique_ptr<MemberProcess>;
  // What the coordinator's events said of a fault.
  struct Naming {
    Time fault{};
    Time trouble{};  // the first sign, named or not
    Time named{};
    Time ended{};
    bool committed = false;  // the fault came after the decision
  };

  void Judge(const Naming& naming, FaultTimes* times) const;
  Status RunRound(const FaultCell& cell, int round, FaultTimes* times);
  Status SetUp(const FaultCell& cell);
  Status EnsureStandbys(Role role);
  void SetDeadline(Duration most);
  Status FreshGeneration(const FaultCell& cell);
  StatusOr<std::string> Failpoints(const FaultCell& cell, int round);
  Status Inject(const FaultCell& cell, int round, Naming* naming, uint64_t* from);
  Status AwaitNaming(const FaultCell& cell, uint64_t from, Naming* naming);
  Status AwaitAbort(const FaultCell& cell, uint64_t from, Naming* naming);
  Status Replace(Role role);
  Status Recover(int round, Time* recovered, uint64_t* attempts);
  void Reset();
  std::string Tails() const;
  ProcessPtr& Slot(Role role) { return role == Role::kTrainer ? trainer_ : worker_; }

  FaultOptions options_;
  std::mt19937_64 random_;
  bool p2p_ = true;
  std::unique_ptr<Trial> trial_;  // before the processes: their notes go there
  ProcessPtr trainer_;
  ProcessPtr worker_;
  std::deque<ProcessPtr> standbys_;  // the oldest first
  Role standby_role_ = Role::kWorker;
  std::vector<ProcessPtr> buried_;  // killed, perhaps not yet gone
  uint64_t label_ = 0;
  uint64_t steps_ = 1;
};

}  // namespace packcast::trial
